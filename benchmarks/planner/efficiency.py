"""How much of a GPU's peak a program reaches: the one place that says so.

    seconds = linear / (share × peak) + attention / (share × peak)
              + (activations × bytes + convolutions × bytes) / bandwidth

Products run at a share of the peak. What stands between them, norms, rotation, gates, is a matter
of memory, and so is a VAE of few channels at full size. `python -m benchmarks.plan --calibration`
fits these numbers anew and shows how far off they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.planner.hardware import Gpu
from benchmarks.planner.work import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """Of one program."""

    linear: Mapping[str, float]
    """By precision: share of that precision's peak in linear layers."""
    attention: float  # share of the peak in 16 bits
    activation_bytes: float = 220
    """Moved for each token, channel and layer. A block's norms, rotations and gates read and write
    137 bytes in 16 bits, some of them in 32; 220 is the count with those. Not fitted."""
    vae_bytes: float
    """Moved for each operation of the VAE."""

    def seconds(self, work: Work, gpu: Gpu, precision: str) -> float:
        """What a pass takes; attention and VAE stay in 16 bits. ValueError where GPU or program
        does not know the precision."""
        if precision not in self.linear:
            raise ValueError(f"precision is {precision!r}, wanted one of {', '.join(self.linear)}")
        linear = work.linear / (self.linear[precision] * gpu.peak(precision))
        attention = work.attention / (self.attention * gpu.peak("bf16"))
        moved = work.activations * self.activation_bytes + work.convolution * self.vae_bytes
        return linear + attention + moved / gpu.bandwidth


TUNED_SHARE = 0.655
VAE_BYTES = 0.0266

TUNED = Efficiency(
    linear=dict.fromkeys(("bf16", "fp16", "fp8"), TUNED_SHARE),
    attention=TUNED_SHARE,
    vae_bytes=VAE_BYTES,
)
"""Fused kernels, one graph: what the fastest published programs reach. The share in fp8 is taken to
be that in 16 bits."""

RELEASE = Efficiency(
    linear={"bf16": 0.163, "fp16": 0.163, "fp8": 0.250},
    attention=TUNED_SHARE,
    vae_bytes=VAE_BYTES,
)
"""The released code of Live Avatar, whose linear layers stand for all that it loses on the way: 20
frames per second in bf16, not compiled; 45 in fp8, compiled."""

SOFTWARE = {"release": RELEASE, "tuned": TUNED}


def software_named(name: str) -> Efficiency:
    """ValueError names what there is."""
    if name not in SOFTWARE:
        raise ValueError(f"software is {name!r}, wanted one of {', '.join(SOFTWARE)}")
    return SOFTWARE[name]
