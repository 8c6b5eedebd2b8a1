"""What one text-to-video stream owns on a device: caches, prompt, blocks in flight, its place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipeline.config.rolling import RollingConfig
from pipeline.engines.base import Array, BoundGraph, Buffers, LoadedGraph
from pipeline.rolling.plan import RollingPlan

Noise = Callable[[int, int], Array]
"""Block and level -> standard normal noise [1, C, F, h, w] that enters this block there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedBlock:
    """A block that has passed all levels."""

    block: int
    latent: Array
    """[1, C, F, h, w], clean."""


class WindowSession:
    """Everything one stream owns on this device."""

    def __init__(
        self, config: RollingConfig, engines: Mapping[str, LoadedGraph], noise: Noise
    ) -> None:
        self.noise = noise
        self.plan = RollingPlan(config)
        self.next_tick = 0
        self.num_blocks: int | None = None
        """Blocks of the stream, once no more are to enter."""
        self.switched = False
        """Whether the next tick is the first under a new prompt."""
        self.in_flight: dict[int, Array] = {}
        self.finished: dict[int, Array] = {}
        """Clean latents of the latest blocks, as many as may be run again."""
        window = engines["dit_window"]
        self.cache: Buffers = window.new_buffers("cache_")
        self.text: Buffers = window.new_buffers("text_")
        self.text_pass: BoundGraph = engines["dit_text"].bind({}, self.text)
        written = {name.replace("cache_", "present_", 1): a for name, a in self.cache.items()}
        self.storing: dict[str, BoundGraph] = {
            name: engine.bind(self._inputs_of(engine), written)
            for name, engine in engines.items()
            if name in ("dit_clean", "dit_recache")
        }
        self.velocities: dict[int, Array] = {}
        """Output memory for each number of blocks in a window."""
        self.windows: dict[int, BoundGraph] = {}

    def _inputs_of(self, engine: LoadedGraph) -> Buffers:
        """Caches and what a storing pass needs of the text: all layers but the last."""
        text = {name: array for name, array in self.text.items() if name in engine.inputs}
        return {**self.cache, **text}

    @property
    def done(self) -> bool:
        """Whether every block of the stream is finished."""
        return self.num_blocks is not None and self.next_tick >= self.plan.num_ticks(
            self.num_blocks
        )
