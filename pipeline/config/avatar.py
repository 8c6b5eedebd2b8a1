"""The numbers of a deployment in one frozen place, `pipeline.json` beside the graphs: what the
schedule, the caches and the wire need. Widths and depths of networks belong to
`networks.presets`."""

from dataclasses import dataclass
from typing import ClassVar

from pipeline.config.sizes import StreamConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineConfig(StreamConfig):
    """Sizes, schedule and windows of one preset (docs/method.md sections 1 to 5). `*_frames` say
    which frames they count: latent frames (4 video frames each) or video frames (25 per second)."""

    FILE: ClassVar[str] = "pipeline.json"

    audio_layers: int  # hidden states per audio frame: wav2vec2 layers + 1
    audio_dim: int
    num_audio_tokens: int = 4
    """Local audio tokens per latent frame, without the learned padding token."""
    max_actors: int = 2  # who may stand in one picture, each with a sound of his own
    # Schedule
    num_steps: int = 4
    shift: float = 3.0
    frames_per_block: int = 3  # latent frames denoised together
    window_blocks: int = 4  # ring slots of the KV cache: the current block and the ones before it
    # Sink
    motion_frames: int = 19  # latent frames handed to the framepack motioner
    sink_position: int = 30
    """Temporal position of the reference token until the video has grown past it."""
    sink_distance_min: int = 4
    sink_distance_max: int = 30
    """Range of the distance between the current block and the reference token, latent frames."""
    sink_distance: int | None = 30
    """Distance used by default; None draws it from the session's seed for every block and step."""
    recalibrate_block: int = 4
    """First block whose sink holds the first generated latent frame instead of the reference."""
    round_rope_to_half: bool = False
    """Round RoPE tables to float16, as the release does; for parity runs."""
    # VAE
    warmup_frames: int = 7  # motion latents that are decoded and discarded before block 0
    # Audio
    sample_rate: int = 16_000
    fps: int = 25
    audio_context_frames: int = 125
    """Video frames of audio before a block that its features may see."""
    audio_lookahead_frames: int = 0
    """Video frames of audio after a block that its features wait for."""
    # Text
    tokenizer: str = "bytes"
    """`bytes`, or the file name of a Hugging Face `tokenizer.json` beside pipeline.json."""

    def __post_init__(self) -> None:
        self.check_sizes(
            4 * self.spatial_stride * self.patch_size,
            "VAE stride x patch size x 4, for the coarsest motion bucket",
        )
        self.check_counts(
            "max_actors",
            "num_steps",
            "frames_per_block",
            "window_blocks",
            "num_layers",
            "num_heads",
        )
        if self.recalibrate_block < 1:
            raise ValueError(
                f"recalibrate_block is {self.recalibrate_block}, wanted 1 or more: "
                "block 0 generates the frame that the sink is re-calibrated with"
            )
        if self.sample_rate % self.fps:
            raise ValueError(
                f"sample_rate {self.sample_rate} is not a multiple of fps {self.fps}, "
                "so a video frame would not be a whole number of samples"
            )
        if self.sink_distance is not None and not 0 <= self.sink_distance <= self.sink_position:
            raise ValueError(
                f"sink_distance is {self.sink_distance}, wanted 0..{self.sink_position} or null"
            )
        if not 0 <= self.sink_distance_min <= self.sink_distance_max <= self.sink_position:
            raise ValueError(
                f"sink distance range {self.sink_distance_min}..{self.sink_distance_max} must be "
                f"ordered and lie in 0..{self.sink_position}"
            )

    @property
    def num_sink_tokens(self) -> int:
        """Reference frame + motion buckets 1x, 2x (a quarter) and 4x (4 frames of a sixteenth)."""
        s = self.tokens_per_frame
        return s + s + s // 4 + 4 * (s // 16)

    @property
    def cache_len(self) -> int:
        """Tokens of a KV cache: [sink | ring of `window_blocks` blocks]."""
        return self.num_sink_tokens + self.window_blocks * self.tokens_per_block

    @property
    def audio_local_shape(self) -> tuple[int, int, int, int]:
        """Local audio tokens of a block: [1, F, tokens + 1, D]."""
        dim = self.num_heads * self.head_dim
        return 1, self.frames_per_block, self.num_audio_tokens + 1, dim

    @property
    def audio_global_shape(self) -> tuple[int, int, int]:
        """Global audio tokens of a block: [1, F, D]."""
        return 1, self.frames_per_block, self.num_heads * self.head_dim

    @property
    def samples_per_frame(self) -> int:
        """Audio samples of one video frame: 640 at 16 kHz and 25 fps."""
        return self.sample_rate // self.fps

    @property
    def samples_per_block(self) -> int:
        return self.samples_per_frame * self.video_frames_per_block
