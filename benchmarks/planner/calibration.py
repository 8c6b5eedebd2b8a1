"""The factors of `benchmarks.planner.efficiency` from the points that calibrate, and the errors at
those that don't.

Each step has a solution in closed form. With two points for one factor it is their geometric mean,
so both are off by the same part, one up and one down.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

from benchmarks.planner.efficiency import TUNED, Efficiency
from benchmarks.planner.published import Point, calibrating

WITHIN = 0.15
"""Of a published figure: what a prediction is wanted to reach."""
Build = Callable[[float], Efficiency]


def fitted() -> tuple[Efficiency, Efficiency]:
    """Tuned and released software, from nothing but the points that calibrate."""
    bf16, fp8, *vae, wan, self_forcing = calibrating()

    def with_vae(value: float) -> Efficiency:
        return dataclasses.replace(TUNED, vae_bytes=value)

    vae_bytes = _mean([_solve(point, with_vae, 1e-4, 1.0) for point in vae])

    def with_share(value: float) -> Efficiency:
        linear = dict.fromkeys(TUNED.linear, value)
        return Efficiency(linear=linear, attention=value, vae_bytes=vae_bytes)

    share = _mean([_solve(point, with_share, 0.02, 1.0) for point in (wan, self_forcing)])
    tuned = with_share(share)

    def released(precision: str) -> Build:
        return lambda value: dataclasses.replace(tuned, linear={precision: value})

    narrow = _solve(fp8, released("fp8"), 0.02, 1.0)
    wide = _solve(bf16, released("bf16"), 0.02, 1.0)
    return tuned, dataclasses.replace(tuned, linear={"bf16": wide, "fp16": wide, "fp8": narrow})


def within(errors: Sequence[float]) -> int:
    """How many are as near as wanted."""
    return sum(abs(error) <= WITHIN for error in errors)


def _solve(point: Point, build: Build, low: float, high: float) -> float:
    """The factor with which a point is met: by halving, since predictions go one way with it."""
    rises = point.error(build(high)) > point.error(build(low))
    for _ in range(60):
        middle = math.sqrt(low * high)
        if (point.error(build(middle)) < 0) == rises:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)


def _mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))
