"""What every tick of a text-to-video stream computes: integers only.

Blocks 0, 1, 2, … of a stream pass the levels 0 (pure noise) .. d - 1. Diagonal: tick k denoises all
blocks in flight in one joint window, block b at level k - b. Sequential: tick b takes block b
through all levels.

    tick 0   [0]                    warm-up: the window grows, no cache is read
    tick 1   [0 1]
    tick 2   [0 1 2]                d = 3: block 0 is finished, its clean K/V become the sink
    tick 3   S      [1 2 3]         steady state
    tick 4   S 1    [2 3 4]         history: as many clean blocks as the span holds
    tick 5   S 1 2  [3 4]           drain: block 4 was the last

A cache is `[sink | ring]`, one slot per block; slots never move. Keys are stored before RoPE, so a
position is a number that the plan gives. With an adjacent sink a pass counts its keys from 0, so a
stream may be endless (Rolling Forcing, arXiv 2509.25161; docs/method.md section 8).

A tick begins with the clean pass of the block finished before it. So no clean pass is planned whose
K/V nobody will read, though nobody knows when a stream ends.
"""

from dataclasses import dataclass

from pipeline.config.rolling import RollingConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One cached block that a pass attends to."""

    block: int
    slot: int
    position: int
    """Temporal position (latent frames) of its first frame in this pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One call of the network on successive blocks of one stream, which see each other."""

    blocks: range
    levels: tuple[int, ...] | None
    """Level of each block; None: the blocks are clean and their K/V are stored."""
    history: tuple[Key, ...]
    """Cached blocks attended to beside the pass's own, oldest first."""
    position: int
    """Temporal position of the first block's first frame; the others follow on."""
    stored: range
    """Blocks whose K/V are written into successive slots; in a storing pass the others of its
    blocks are queries only. Empty in a denoising pass, whose K/V are its own."""
    write_slot: int
    """Slot of the first stored block; 0 if there is none."""

    @property
    def graph(self) -> str:
        """The exported graph that runs it."""
        if self.levels is not None:
            return "dit_window"
        return (
            "dit_clean" if self.stored == self.blocks and len(self.blocks) == 1 else "dit_recache"
        )

    @property
    def num_keys(self) -> int:
        """Blocks that attention sees."""
        return len(self.history) + len(self.stored if self.levels is None else self.blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """The passes of one tick in their order, and the block that is finished after them."""

    number: int
    store: Pass | None
    """Clean pass of the block finished before, or re-run of the cache under a new prompt."""
    denoise: tuple[Pass, ...]
    finished: int | None


class RollingPlan:
    """Plans the ticks of one stream; of the past it knows only where slots were dealt anew."""

    def __init__(self, config: RollingConfig) -> None:
        self.config = config
        self._first_sink = 0
        self._first_in_ring = config.sink_blocks

    def num_ticks(self, num_blocks: int) -> int:
        """Ticks until the last of `num_blocks` blocks is finished."""
        return num_blocks + self._latency if num_blocks else 0

    def tick(self, number: int, num_blocks: int | None = None) -> Tick:
        """Plan tick 0, 1, 2, …; `num_blocks` is known once the stream has ended (drain)."""
        self._check(number, num_blocks)
        finished = number - 1 - self._latency
        store = self.clean_pass(finished) if finished >= 0 else None
        return self._tick(number, num_blocks, store)

    def switch_tick(self, number: int, num_blocks: int | None = None) -> Tick:
        """The same for the first tick under a new prompt, of which the caller has made new text
        K/V. If the cache is to be run again, that replaces the clean pass and deals slots anew.
        """
        if self.config.recache == "none" or number <= self._latency:
            return self.tick(number, num_blocks)
        self._check(number, num_blocks)
        return self._tick(number, num_blocks, self._recache(number - self._latency))

    def clean_pass(self, block: int) -> Pass:
        """Store the K/V of `block`, finished."""
        c = self.config
        if c.clean_sees_sink:
            history = self._history(block, c.span_blocks - 1)
        else:
            first = max(self._first_sink, block - c.span_blocks + 1)
            history = tuple(range(first, block))
        return self._pass(range(block, block + 1), None, history, stored=range(block, block + 1))

    def slot(self, block: int) -> int:
        """Cache slot of `block`: the sink's own, or one of the ring."""
        if block < self._first_in_ring:
            return block - self._first_sink
        return self.config.sink_blocks + (block - self._first_in_ring) % self.config.ring_blocks

    @property
    def _latency(self) -> int:
        """Ticks from a block's first to its last."""
        return self.config.window_blocks - 1

    def _check(self, number: int, num_blocks: int | None) -> None:
        if number < 0:
            raise ValueError(f"tick is {number}, wanted 0 or more")
        if num_blocks is not None and number >= self.num_ticks(num_blocks):
            raise ValueError(
                f"tick is {number}, but a stream of {num_blocks} blocks has "
                f"{self.num_ticks(num_blocks)}"
            )

    def _tick(self, number: int, num_blocks: int | None, store: Pass | None) -> Tick:
        first = max(0, number - self._latency)
        last = number if num_blocks is None else min(number, num_blocks - 1)
        blocks, finished = range(first, last + 1), number - self._latency
        if self.config.schedule == "diagonal":
            levels = [tuple(number - block for block in blocks)]
        else:
            levels = [(level,) for level in range(self.config.num_levels)]
        history = self._history(first, self.config.span_blocks - len(blocks))
        return Tick(
            number=number,
            store=store,
            denoise=tuple(self._pass(blocks, each, history) for each in levels),
            finished=finished if finished >= 0 else None,
        )

    def _history(self, block: int, room: int) -> tuple[int, ...]:
        """Cached blocks before `block`: the sink and as many of the latest as there is room for."""
        sink_end = min(block, self._first_sink + self.config.sink_blocks)
        sink = tuple(range(self._first_sink, sink_end))
        recent = range(max(self._first_in_ring, block - (room - len(sink))), block)
        return sink + tuple(recent)

    def _recache(self, num_finished: int) -> Pass:
        """Run the last finished blocks again, as many as the cache holds."""
        c = self.config
        blocks = range(max(0, num_finished - c.cache_blocks), num_finished)
        full = blocks.start > self._first_sink
        if full and c.recache == "keep_sink":
            stored = blocks[c.sink_blocks :]
            self._first_in_ring = stored.start
            sink = tuple(range(self._first_sink, self._first_sink + c.sink_blocks))
            return self._pass(blocks, None, sink, stored=stored)
        self._first_sink = blocks.start
        self._first_in_ring = blocks.start + c.sink_blocks
        return self._pass(blocks, None, (), stored=blocks)

    def _pass(
        self,
        blocks: range,
        levels: tuple[int, ...] | None,
        history: tuple[int, ...],
        stored: range = range(0),
    ) -> Pass:
        frames = self.config.frames_per_block
        own = blocks if levels is not None else stored
        if self.config.sink_position == "true":
            start = {block: block * frames for block in (*history, *blocks)}
        else:  # keys are contiguous; what is a query only stands before the stored blocks
            order = (*history, *own)
            start = {block: place * frames for place, block in enumerate(order)}
            start |= {block: start[own.start] - (own.start - block) * frames for block in blocks}
        return Pass(
            blocks=blocks,
            levels=levels,
            history=tuple(
                Key(block=block, slot=self.slot(block), position=start[block]) for block in history
            ),
            position=start[blocks.start],
            stored=stored,
            write_slot=self.slot(stored.start) if stored else 0,
        )
