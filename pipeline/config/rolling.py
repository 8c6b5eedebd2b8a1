"""The numbers of a text-to-video stream, in one frozen place.

One vocabulary for the systems that clean a few levels of noise block after block with a cache of
clean K/V (docs/method.md section 8):

                   schedule    span  sink  sink_position  clean_sees_sink  recache
    Rolling Forcing diagonal   21    3     adjacent       False            none
    Self-Forcing    sequential 21    0     true           True             none
    LongLive        sequential 12    3     true           True             keep_sink | new_sink
    LongLive, inf.  sequential 12    3     adjacent       True             keep_sink | new_sink
"""

from dataclasses import dataclass
from typing import ClassVar

from pipeline.config.sizes import StreamConfig

CHOICES = {
    "schedule": ("diagonal", "sequential"),
    "sink_position": ("adjacent", "true"),
    "recache": ("none", "keep_sink", "new_sink"),
    "sampler": ("renoise", "euler"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingConfig(StreamConfig):
    """Sizes, schedule and cache of one preset; `*_frames` are latent frames unless said
    otherwise."""

    FILE: ClassVar[str] = "rolling.json"

    FIRST_IN_FILE: ClassVar[tuple[str, ...]] = (
        *("preset", "height", "width", "latent_channels", "spatial_stride", "temporal_stride"),
        *("patch_size", "fps"),
    )

    fps: int = 16
    # Levels of noise
    denoising_steps: tuple[int, ...] = (1000, 800, 600, 400, 200)
    """Noise levels of 0..1000 before the shift, noisiest first; a window is as many blocks."""
    shift: float = 5.0
    context_timestep: float = 0.0  # what the clean pass is told; no noise is added for it
    sampler: str = "renoise"
    """`renoise`: predict the clean latent, add fresh noise; `euler`: follow the velocity."""
    # Schedule
    schedule: str = "diagonal"
    """`diagonal`: one joint window over all levels; `sequential`: block after block."""
    frames_per_block: int = 3
    # Cache and attention
    span_frames: int = 21  # frames that one pass attends to, its own included
    sink_frames: int = 3  # first frames of the stream that are kept for ever
    sink_position: str = "adjacent"
    """`adjacent`: keys are contiguous in time, the sink just before the recent history;
    `true`: the sink stays where it was, so its distance grows."""
    clean_sees_sink: bool = False
    """Whether the clean pass attends to the sink once the span is full."""
    recache: str = "none"
    """At a change of prompt: run the cached blocks again under the new one. `keep_sink` leaves the
    sink's K/V as they are once the span is full, `new_sink` replaces it."""
    # Text
    tokenizer: str = "bytes"
    """`bytes`, or the file name of a Hugging Face `tokenizer.json` beside rolling.json."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "denoising_steps", tuple(self.denoising_steps))
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}, wanted one of {choices}")
        self.check_counts("num_layers", "num_heads", "frames_per_block", "fps", "temporal_stride")
        self.check_sizes(self.spatial_stride * self.patch_size, "VAE stride x patch size")
        self._check_span()
        self._check_levels()

    def _check_span(self) -> None:
        for name in ("span_frames", "sink_frames"):
            if (frames := getattr(self, name)) < 0 or frames % self.frames_per_block:
                wanted = f"a multiple of frames_per_block {self.frames_per_block}"
                raise ValueError(f"{name} is {frames}, wanted {wanted}")
        least = self.sink_blocks + self.window_blocks
        if self.span_blocks < least:
            raise ValueError(
                f"span_frames is {self.span_frames}, wanted {least * self.frames_per_block} or "
                f"more: the sink's {self.sink_frames} and a window of {self.window_blocks} blocks"
            )

    def _check_levels(self) -> None:
        steps = self.denoising_steps
        if not steps or list(steps) != sorted(set(steps), reverse=True):
            raise ValueError(f"denoising_steps is {steps}, wanted falling numbers")
        if not (steps[0] <= 1000 and steps[-1] > 0):
            raise ValueError(f"denoising_steps is {steps}, wanted numbers in 1..1000")
        if not 0 <= self.context_timestep <= 1000:
            raise ValueError(f"context_timestep is {self.context_timestep}, wanted 0..1000")
        if self.shift <= 0:
            raise ValueError(f"shift is {self.shift}, wanted a positive number")

    @property
    def num_levels(self) -> int:
        return len(self.denoising_steps)

    @property
    def window_blocks(self) -> int:
        """Most blocks that one pass denoises."""
        return self.num_levels if self.schedule == "diagonal" else 1

    @property
    def span_blocks(self) -> int:
        return self.span_frames // self.frames_per_block

    @property
    def sink_blocks(self) -> int:
        return self.sink_frames // self.frames_per_block

    @property
    def ring_blocks(self) -> int:
        """Cache slots behind the sink's. A clean pass sees its own block and those before it, so
        its whole span must be there, without the sink if that isn't seen."""
        return self.span_blocks - (self.sink_blocks if self.clean_sees_sink else 0)

    @property
    def cache_blocks(self) -> int:
        """Slots of a KV cache: [sink | ring]."""
        return self.sink_blocks + self.ring_blocks

    @property
    def cache_len(self) -> int:
        """Tokens of a KV cache."""
        return self.cache_blocks * self.tokens_per_block

    def video_frames(self, num_blocks: int) -> int:
        """Video frames of a stream's first blocks: its first latent frame is a single one."""
        return max(0, num_blocks * self.video_frames_per_block - self.temporal_stride + 1)

    def blocks_of(self, video_frames: int) -> int:
        """Blocks that hold so many video frames from a stream's start."""
        whole = video_frames + self.temporal_stride - 1
        return -(-whole // self.video_frames_per_block) if video_frames else 0
