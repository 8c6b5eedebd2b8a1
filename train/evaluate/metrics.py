"""Every metric that is reported: which figures it is made of, what is good, and how sure it is.

Metrics are means over faces with bootstrap intervals. A face is what generalises, so faces are
drawn again; seeds are repeated measures of a face and are averaged before.
"""

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Array = np.ndarray
Runs = Mapping[tuple[int, int], Mapping[str, float]]  # figures of every run by (face, seed)

DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with the ends of its 95 % interval; all nan if nothing was measured."""

    value: float
    low: float
    high: float
    num_faces: int = 0

    @property
    def known(self) -> bool:
        return bool(np.isfinite(self.value))

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]" if self.known else "–"


UNKNOWN = Estimate(float("nan"), float("nan"), float("nan"))


def as_json(value: Estimate, of: str = "faces") -> dict[str, float | int | None]:
    """JSON has no nan. `of`: what `num_faces` counts."""
    ends = {"value": value.value, "low": value.low, "high": value.high}
    plain = {name: round(v, 5) if math.isfinite(v) else None for name, v in ends.items()}
    return {**plain, of: value.num_faces}


def by_face(runs: Runs, name: str, only: set[tuple[int, int]] | None = None) -> dict[int, float]:
    """Mean over the seeds of each face; faces without a figure are left out."""
    seeds: dict[int, list[float]] = {}
    for key, figures in runs.items():
        value = figures.get(name, float("nan"))
        if np.isfinite(value) and (only is None or key in only):
            seeds.setdefault(key[0], []).append(value)
    return {face: float(np.mean(values)) for face, values in seeds.items()}


def bootstrap(statistic: Callable[..., Array], columns: Sequence[Mapping[int, float]]) -> Estimate:
    """Over the faces that all columns have; `statistic` maps their arrays [..., faces] to [...]."""
    faces = sorted(set.intersection(*(set(column) for column in columns)))
    if not faces:
        return UNKNOWN
    values = [np.array([column[face] for face in faces]) for column in columns]
    drawn = np.random.default_rng(0).integers(len(faces), size=(DRAWS, len(faces)))
    again = statistic(*(column[drawn] for column in values))
    low, high = np.quantile(again, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(statistic(*values)), float(low), float(high), len(faces))


def mean(values: Array) -> Array:
    return values.mean(-1)


def median(values: Array) -> Array:
    return np.median(values, -1)


def ratio(above: Array, below: Array) -> Array:
    """Of the means: one odd face does not blow it up."""
    return above.mean(-1) / below.mean(-1)


@dataclass(frozen=True, slots=True)
class Metric:
    """The mean (or median) over faces of a figure, or its ratio to the mean of another one."""

    name: str
    title: str
    better: str  # high, low, one (a ratio that should be 1) or zero
    figure: str
    over: str | None = None
    scale: float | None = None
    """What five per cent are taken of when two settings are compared; None is the other's value.
    For metrics that are perfect near zero it is their gate or usual size."""
    of: str = "mean"  # or median: of the faces, without `over`

    @property
    def names(self) -> list[str]:
        return [name for name in (self.figure, self.over) if name]

    @property
    def form(self) -> Callable[..., Array]:
        if self.over is not None:
            return ratio
        return {"mean": mean, "median": median}[self.of]

    def estimate(self, runs: Runs, only: set[tuple[int, int]] | None = None) -> Estimate:
        columns = [by_face(runs, name, only) for name in self.names]
        return bootstrap(self.form, columns)

    def badness(self, value: Array) -> Array:
        """Larger is worse."""
        if self.better == "one":
            return np.abs(np.log(np.maximum(value, 1e-6)))
        return {"high": -value, "low": value, "zero": np.abs(value)}[self.better]

    def worsening(self, one: Runs, other: Runs) -> Estimate:
        """How much worse `one` is than `other`, in the metric's unit (of a ratio: relative). Over
        the faces and seeds that both have; below zero it is better."""
        both = set(one) & set(other)
        columns = [by_face(runs, name, both) for runs in (one, other) for name in self.names]
        form = self.form

        def difference(*values: Array) -> Array:
            half = len(values) // 2
            first, second = form(*values[:half]), form(*values[half:])
            return self.badness(first) - self.badness(second)

        return bootstrap(difference, columns)


def listed(path: Path) -> tuple[Metric, ...]:
    """The metrics of a table in TOML."""
    return tuple(Metric(**row) for row in tomllib.loads(path.read_text())["metrics"])


METRICS = listed(Path(__file__).with_suffix(".toml"))
BY_NAME = {metric.name: metric for metric in METRICS}


def worst_face(runs: Runs, figure: str) -> Estimate:
    """The lowest face, its seeds averaged; the interval is the range of its seeds."""
    faces = by_face(runs, figure)
    if not faces:
        return UNKNOWN
    face = min(faces, key=faces.__getitem__)
    seeds = [f.get(figure, np.nan) for (of, _), f in runs.items() if of == face]
    seeds = [s for s in seeds if np.isfinite(s)]
    return Estimate(faces[face], min(seeds), max(seeds), len(faces))
