"""Means over faces with bootstrap intervals.

A face is what generalises, so faces are drawn again; seeds are repeated measures of a face and are
averaged before.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Runs = Mapping[tuple[int, int], Mapping[str, float]]
"""Figures of every run by (face, seed)."""

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


def by_face(runs: Runs, name: str, only: set[tuple[int, int]] | None = None) -> dict[int, float]:
    """Mean over the seeds of each face; faces without a figure are left out."""
    seeds: dict[int, list[float]] = {}
    for key, figures in runs.items():
        value = figures.get(name, float("nan"))
        if np.isfinite(value) and (only is None or key in only):
            seeds.setdefault(key[0], []).append(value)
    return {face: float(np.mean(values)) for face, values in seeds.items()}


def bootstrap(statistic: Callable[..., Array], columns: Sequence[Mapping[int, float]]) -> Estimate:
    """An estimate over the faces that all columns have.

    `statistic` maps arrays [..., faces], one per column, to [...].
    """
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


def ratio(above: Array, below: Array) -> Array:
    """Of the means: one odd face does not blow it up."""
    return above.mean(-1) / below.mean(-1)
