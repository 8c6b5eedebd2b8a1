"""GPUs as their makers describe them. Figures are dense rates of public data sheets.

Consumer cards multiply with float32 accumulation at half their best rate, which is what counts
here. Prices are what clouds asked per GPU and hour in 2026, rounded; they differ by half from one
to the other, so say your own (`--price`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

GB, TB, TERA = 1e9, 1e12, 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU; `peaks` are operations a second by precision, multiply and add counted as two."""

    name: str
    memory: float  # bytes
    bandwidth: float  # bytes a second
    peaks: Mapping[str, float]
    price: float  # an hour, in US dollars

    def peak(self, precision: str) -> float:
        """ValueError for a precision that it has no units for."""
        if precision not in self.peaks:
            known = ", ".join(self.peaks)
            raise ValueError(f"{self.name} has no {precision} units, it has {known}")
        return self.peaks[precision]


def _gpu(
    name: str, memory_gb: float, tb_s: float, bf16: float, fp8: float | None, price: float
) -> Gpu:
    peaks = {"bf16": bf16 * TERA, "fp16": bf16 * TERA}
    if fp8 is not None:
        peaks["fp8"] = fp8 * TERA
    memory, bandwidth = memory_gb * GB, tb_s * TB
    return Gpu(name=name, memory=memory, bandwidth=bandwidth, peaks=peaks, price=price)


GPUS = {
    gpu.name: gpu
    for gpu in (
        _gpu("A100", 80, 2.039, 312, None, 1.6),
        _gpu("L40S", 48, 0.864, 362, 733, 1.0),
        _gpu("H100", 80, 3.35, 989.4, 1978.9, 2.8),
        _gpu("H800", 80, 3.35, 989.4, 1978.9, 2.8),
        _gpu("H200", 141, 4.8, 989.4, 1978.9, 3.5),
        _gpu("B200", 180, 8.0, 2250, 4500, 5.0),
        _gpu("GB200", 186, 8.0, 2500, 5000, 6.0),
        _gpu("RTX4090", 24, 1.008, 165.2, 330.3, 0.5),
        _gpu("RTX5090", 32, 1.792, 209.5, 419, 0.8),
    )
}


def gpu_named(name: str) -> Gpu:
    """Whatever its spelling: RTX 4090, rtx-4090. ValueError names those that are known."""
    plain = "".join(filter(str.isalnum, name)).upper()
    if plain not in GPUS:
        raise ValueError(f"no GPU {name!r} is known, known are {', '.join(GPUS)}")
    return GPUS[plain]
