"""Where every block stands in the rolling sink cache: integers only.

A step's KV cache is `[sink tokens | ring of window_blocks slots]`. Slots never move: block b is
written into ring slot b mod window_blocks and evicts what stood there, so attention sees the sink,
the current block and the window_blocks - 1 blocks before it. Keys are stored before RoPE, hence a
position is a number in a table and the video may be endless (docs/method.md sections 2 and 3).

    block 0        block 2              block 5 (slot 1 was block 1)
    [S|0 . . .]    [S|0 1 2 .]          [S|4 5 2 3]

A ring may begin anew at a block, as it did at block 0: then the blocks before are seen no more.
That is re-anchoring (docs/design.md, Drift).

    block 6 begins     block 7
    [S|6 . . .]        [S|6 7 . .]
"""

from dataclasses import dataclass

from pipeline.config.avatar import PipelineConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPlan:
    """What one denoising step does with one block."""

    block: int
    slot: int  # ring slot that the block is written into
    write_index: int  # cache token at which that slot begins
    valid_tokens: int
    """Cache tokens that attention may see, the block's own included: always a prefix."""
    first_frame: int  # temporal position (latent frames) of the block's first frame
    reference_position: int  # temporal position of the sink's reference token for this block
    ring: tuple[tuple[int, int], ...]
    """Slot and first frame of every block that attention may see, the oldest first."""


class SinkCache:
    """Plans the blocks of one step of one session; holds no tensor and no history."""

    def __init__(self, config: PipelineConfig) -> None:
        self.config = config

    def plan(self, block: int, sink_distance: int, ring_start: int = 0) -> BlockPlan:
        """Plan for block 0, 1, 2, …; `sink_distance` in latent frames, 0..sink_position. The
        reference token stands at sink_position until the video comes closer than sink_distance,
        then it rolls ahead of the current block at that distance. The ring holds no block before
        `ring_start`."""
        c = self.config
        if not 0 <= ring_start <= block:
            raise ValueError(f"block is {block}, wanted 0 or more; its ring begins at {ring_start}")
        if not 0 <= sink_distance <= c.sink_position:
            raise ValueError(f"sink_distance is {sink_distance}, wanted 0..{c.sink_position}")
        first_frame = block * c.frames_per_block
        num_filled = min(block - ring_start + 1, c.window_blocks)
        ring = tuple(
            ((seen - ring_start) % c.window_blocks, seen * c.frames_per_block)
            for seen in range(block + 1 - num_filled, block + 1)
        )
        slot, _ = ring[-1]
        return BlockPlan(
            block=block,
            slot=slot,
            write_index=c.num_sink_tokens + slot * c.tokens_per_block,
            valid_tokens=c.num_sink_tokens + num_filled * c.tokens_per_block,
            first_frame=first_frame,
            reference_position=max(c.sink_position, first_frame + sink_distance),
            ring=ring,
        )


def exact_blocks(config: PipelineConfig, steps_per_stage: int) -> int:
    """Blocks whose inputs decide a stage's caches to the last bit: in each layer of each of its
    steps a block's K/V depend on those of the window before it, one layer deeper."""
    return (config.window_blocks - 1) * config.num_layers * steps_per_stage
