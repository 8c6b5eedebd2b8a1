"""What others have published about systems whose work we can count.

A point is one figure with its source. Points that calibrate and points that are left out are told
apart here, once. Figures without hardware, size or schedule beside them are none of these.
"""

from dataclasses import dataclass

from benchmarks.planner.efficiency import RELEASE, TUNED, Efficiency
from benchmarks.planner.schedules import (
    FULL,
    LARGE,
    SMALL,
    SQUARE,
    Predict,
    block_after_block,
    decoder,
    first_frame,
    in_series,
    layers_in_line,
    of_step,
    rolling_window,
    timestep_forcing,
    whole_clip,
)

TINY_VAE_S = 0.015
"""Of the small VAE that some of them decode a block with: an allowance."""
AVATAR_FIRST, AVATAR_LATER = "arXiv 2512.04677 v1", "arXiv 2512.04677 v4"
VAE_REPORT = "github.com/Alibaba-Quark/LiveAvatar, issue 35"
STREAM = "arXiv 2511.07399, section 5.2"
FLASH = "nvidia.github.io/flashdreams, benchmarks"
ROLLING, LONG, SELF = "arXiv 2509.25161", "arXiv 2509.22622", "arXiv 2506.08009"


@dataclass(frozen=True, slots=True)
class Point:
    """One published figure."""

    name: str
    value: float
    unit: str  # "FPS", or "s"
    source: str
    efficiency: Efficiency  # of its software
    predict: Predict
    calibrates: bool = False

    def error(self, efficiency: Efficiency | None = None) -> float:
        """Prediction over the figure, less 1."""
        return self.predict(efficiency or self.efficiency) / self.value - 1


def calibrating() -> list[Point]:
    """In the order in which `benchmarks.planner.calibration` takes them."""
    avatar, stream = "Live Avatar 14B, 5 × H800", layers_in_line(SMALL, SQUARE, "H100")
    step, block = of_step(whole_clip(), "H100"), of_step(block_after_block(15), "H100", TINY_VAE_S)
    found = [
        (f"{avatar}, bf16", 20, "FPS", AVATAR_FIRST, RELEASE, timestep_forcing("bf16")),
        (f"{avatar}, fp8, compiled", 45, "FPS", AVATAR_LATER, RELEASE, timestep_forcing("fp8")),
        ("Wan VAE, 12 frames at 704×384, H100", 0.2378, "s", VAE_REPORT, TUNED, decoder("H100")),
        ("StreamDiffusionV2 1.3B, 512×512, 4 × H100", 61.57, "FPS", STREAM, TUNED, stream),
        ("Wan 1.3B, a guided step of 81 frames, H100", 1.04, "s", FLASH, TUNED, step),
        ("Self-Forcing 1.3B, block, small VAE, H100", 0.344, "s", FLASH, TUNED, block),
    ]
    return [Point(*values, calibrates=True) for values in found]


def left_out() -> list[Point]:
    """What nothing is fitted to."""
    first, wide = "Live Avatar 14B, 5 × H800, fp8: first frame", block_after_block(12)
    stream, far = "StreamDiffusionV2 {}, {}, 4 × {}".format, "RTX4090"
    lines = [
        (stream("14B", "512×512", "H100"), 58.28, layers_in_line(LARGE, SQUARE, "H100")),
        (stream("14B", "832×480", "H100"), 39.24, layers_in_line(LARGE, FULL, "H100")),
        (stream("1.3B", "832×480", "H100"), 42.26, layers_in_line(SMALL, FULL, "H100")),
        (stream("1.3B", "512×512", far), 24.0, layers_in_line(SMALL, SQUARE, far)),
    ]
    series = [
        ("Rolling Forcing 1.3B, H100", 16.0, ROLLING, in_series(rolling_window(), "H100")),
        ("LongLive 1.3B, H100", 20.7, LONG, in_series(wide, "H100")),
        ("LongLive 1.3B, fp8, H100", 24.8, LONG, in_series(wide, "H100", "fp8")),
        ("Self-Forcing 1.3B, H100", 17.0, SELF, in_series(wide, "H100")),
    ]
    block = of_step(block_after_block(15), "GB200", TINY_VAE_S)
    times = [
        ("Wan 1.3B, a guided step of 81 frames, GB200", 0.441, of_step(whole_clip(), "GB200")),
        ("Self-Forcing 1.3B, block, small VAE, GB200", 0.203, block),
    ]
    return [
        Point(first, 1.21, "s", AVATAR_LATER, RELEASE, first_frame("fp8")),
        *(Point(name, fps, "FPS", STREAM, TUNED, predict) for name, fps, predict in lines),
        *(Point(name, fps, "FPS", paper, TUNED, predict) for name, fps, paper, predict in series),
        *(Point(name, s, "s", FLASH, TUNED, predict) for name, s, predict in times),
    ]
