"""What is kept of a stream at `dit_window`, to bring it back there; decided by integers.

The window feeds on what it made itself, so a tick's inputs are not enough. The latents of finished
blocks are kept, and a clean pass makes the K/V of each again. The blocks in flight are read after
every tick. So nothing is denoised twice.

    ticks kept    [0 … those that made the sink]    gap    [the last ones, which decide the ring]
"""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import numpy as np

from pipeline.config.rolling import RollingConfig
from pipeline.engines.base import Array, Arrays
from pipeline.sessions.kept import Kept, lasting_of


class KeptStream(Kept):
    """One stream at the window. Each tick's `in_flight` stands beside its inputs: all that
    `WindowDevice.in_flight` gave after the newest, the finished block alone of the others."""

    reads: ClassVar[str | None] = "in_flight"

    def __init__(self, opening: Arrays, rules: Mapping[str, RollingConfig], blocks: int) -> None:
        """Keep `blocks` finished blocks of a stream that runs under one of `rules`, by name. More
        than `exact_blocks` are never kept."""
        config = rules[opening["rules"].tobytes().decode()]
        rerun = 0 if config.recache == "none" else config.cache_blocks
        most = max(min(blocks, exact_blocks(config)), config.window_blocks) + rerun
        super().__init__(opening, most)
        self.config = config
        self._rerun = rerun  # blocks that a change of prompt runs again
        self._sink = range(config.window_blocks + max(rerun, config.sink_blocks))

    def add(self, tick: int, inputs: dict[str, Array]) -> None:
        self.steps[tick] = {**inputs, "block": np.array([tick], np.int64)}
        self._trim()
        if "text" in inputs and self._moves_sink(tick):
            self._sink = range(tick - self._rerun, tick + 1)
        others = [kept for kept in sorted(self.steps) if kept not in self._sink]
        for old in others[: -self.most]:
            self._drop(old)

    def history(self) -> list[tuple[int, Arrays]]:
        """Ticks to repeat. They are numbered without gaps, and `block` says which they are."""
        ticks = sorted(self.steps)
        first = ticks[-1] + 1 - len(ticks) if ticks else 0
        return [(first + i, self.steps[tick]) for i, tick in enumerate(ticks)]

    def _trim(self) -> None:
        """Leave the blocks in flight to the newest tick, and given noise to these blocks."""
        newest, frames = max(self.steps), self.config.frames_per_block
        for tick, inputs in self.steps.items():
            if tick < newest and inputs["in_flight"].shape[2] > frames:
                inputs["in_flight"] = inputs["in_flight"][:, :, :frames].copy()
            if tick <= newest - self.config.window_blocks:
                inputs.pop("noise", None)

    def _moves_sink(self, tick: int) -> bool:
        """Whether a new prompt at `tick` makes another block the sink."""
        finished = tick + 1 - self.config.window_blocks
        return self.config.recache == "new_sink" and finished > self.config.cache_blocks

    def _drop(self, tick: int) -> None:
        """What held from `tick` on holds from the next one that is kept."""
        lasting = lasting_of(self.steps.pop(tick))
        after = min(kept for kept in self.steps if kept > tick)
        self.steps[after] = {**lasting, **self.steps[after]}


def exact_blocks(config: RollingConfig) -> int:
    """Finished blocks that decide a window's next tick to the last bit. In each layer but the first
    a block's K/V depend on those that its clean pass saw, one layer deeper; and a window sees most
    of the past when a single block is left in it."""
    seen = config.ring_blocks - 1
    recent = config.span_blocks - config.sink_blocks - 1
    return (config.num_layers - 1) * seen + recent


def keep_streams(rules: Mapping[str, RollingConfig], blocks: int) -> partial[KeptStream]:
    """Keep `blocks` of each stream, of its opening."""
    return partial(KeptStream, rules=rules, blocks=blocks)
