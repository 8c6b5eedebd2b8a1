"""Systems of others: what their schedules make a GPU do, and what follows from it."""

import functools
from collections.abc import Callable

from benchmarks.planner.efficiency import Efficiency
from benchmarks.planner.hardware import gpu_named
from benchmarks.planner.work import AvatarWork, Work, avatar_work, transformer_pass
from networks.configs import WanConfig
from networks.presets import PRESETS
from networks.rolling_presets import ROLLING_PRESETS

SMALL = ROLLING_PRESETS["rolling-1.3b"].wan
_14B = PRESETS["14b"].dit
LARGE = WanConfig(
    dim=_14B.dim,
    ffn_dim=_14B.ffn_dim,
    freq_dim=_14B.freq_dim,
    num_heads=_14B.num_heads,
    num_layers=_14B.num_layers,
    text_dim=_14B.text_dim,
    text_len=_14B.text_len,
)
FULL, SQUARE = (480, 832), (512, 512)
Predict = Callable[[Efficiency], float]


@functools.cache
def live_avatar() -> AvatarWork:
    """At the release's size, 704 × 384."""
    return avatar_work(PRESETS["14b"])


def vae_work(size: tuple[int, int], frames: int) -> Work:
    """Wan's decoder at another size: its work goes with the pixels."""
    c = PRESETS["14b"].pipeline
    pixels = c.height * c.width * c.video_frames_per_block
    return live_avatar().decode * (size[0] * size[1] * frames / pixels)


def encode_work(size: tuple[int, int], frames: int) -> Work:
    """Wan's encoder: of a frame, and so much of each further one as of a decoder's."""
    c = PRESETS["14b"].pipeline
    return live_avatar().encode_frame * (size[0] * size[1] * frames / (c.height * c.width))


def tokens(size: tuple[int, int]) -> int:
    """Of a latent frame."""
    return size[0] * size[1] // 256


def block_after_block(history: float, passes: int = 5) -> Work:
    """A block of three latent frames at 1.3B: four denoising passes and a clean one, which see
    `history` latent frames, their own included."""
    frame = tokens(FULL)
    return transformer_pass(SMALL, 3 * frame, round(history * frame)) * passes


def rolling_window() -> Work:
    """A tick of Rolling Forcing: a window of 15 latent frames and a clean pass, both see 21."""
    frame = tokens(FULL)
    window = transformer_pass(SMALL, 15 * frame, 21 * frame)
    return window + transformer_pass(SMALL, 3 * frame, 21 * frame)


def whole_clip() -> Work:
    """A step of bidirectional Wan 1.3B over 81 frames, with guidance: two passes."""
    count = 21 * tokens(FULL)
    return transformer_pass(SMALL, count, count) * 2


def decoder(gpu: str) -> Predict:
    """Seconds of Wan's decoder for a block at the release's size."""
    return lambda efficiency: efficiency.seconds(live_avatar().decode, gpu_named(gpu), "bf16")


def in_series(work: Work, gpu: str, precision: str = "bf16") -> Predict:
    """Frames per second of one GPU that denoises a block of 12 frames and then decodes it."""

    def predict(efficiency: Efficiency) -> float:
        both = work + vae_work(FULL, 12)
        return 12 / efficiency.seconds(both, gpu_named(gpu), precision)

    return predict


def layers_in_line(wan: WanConfig, size: tuple[int, int], gpu: str) -> Predict:
    """Frames per second of StreamDiffusionV2 on four GPUs: a latent frame is encoded on the first
    one, passes the layers in one step with a cache of six, and is decoded on the last one. Layers
    are shared out so that all take the same time, as far as the decoder leaves something over."""

    def predict(efficiency: Efficiency) -> float:
        passed = transformer_pass(wan, tokens(size), 6 * tokens(size))
        parts = (encode_work(size, 4), passed, vae_work(size, 4))
        times = [efficiency.seconds(part, gpu_named(gpu), "bf16") for part in parts]
        return 4 / max(sum(times) / 4, times[0], times[2])

    return predict


def of_step(work: Work, gpu: str, beside_s: float = 0.0) -> Predict:
    """Seconds of a step, and of what it is measured with."""
    return lambda e: e.seconds(work, gpu_named(gpu), "bf16") + beside_s


def timestep_forcing(precision: str) -> Predict:
    """Frames per second of Live Avatar on 5 × H800: the slower of a step and the decoder."""

    def predict(efficiency: Efficiency) -> float:
        gpu, work = gpu_named("H800"), live_avatar()
        step = efficiency.seconds(work.step, gpu, precision)
        return 12 / max(step, efficiency.seconds(work.decode, gpu, precision))

    return predict


def first_frame(precision: str) -> Predict:
    """Seconds to Live Avatar's first frame, picture and text encoded: the sink, four steps of a
    block that sees the sink and itself, the decoder."""

    def predict(efficiency: Efficiency) -> float:
        gpu, work = gpu_named("H800"), live_avatar()
        parts = work.prefill + work.first_step * 4
        decode = efficiency.seconds(work.decode, gpu, precision)
        return efficiency.seconds(parts, gpu, precision) + decode

    return predict
