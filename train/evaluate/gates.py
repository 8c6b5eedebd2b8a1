"""What the shipped student must reach, and what the figures say about it.

A verdict follows from the figure; "surely" is added only if its whole interval is on that side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from train.evaluate.metrics import (
    BY_NAME,
    METRICS,
    UNKNOWN,
    Estimate,
    Metric,
    Runs,
    bootstrap,
    by_face,
    mean,
    ratio,
    worst_face,
)
from train.evaluate.run import HORIZONS_S
from train.evaluate.settings import CAP, LONG, STUDENT, TEACHER, TEACHER_IN_4

Results = Mapping[str, Runs]  # setting -> (face, seed) -> figures

ALLOWED = 0.05  # share by which the student may be worse than the many-step teacher


@dataclass(frozen=True, slots=True)
class Gate:
    """A figure, and what it has to be."""

    name: str
    low: float
    high: float  # both ends are allowed
    found: Estimate

    @property
    def wanted(self) -> str:
        if self.low == -np.inf:
            return f"≤ {self.high:g}"
        return f"≥ {self.low:g}" if self.high == np.inf else f"{self.low:g} to {self.high:g}"

    @property
    def passed(self) -> bool | None:
        return self.low <= self.found.value <= self.high if self.found.known else None

    @property
    def verdict(self) -> str:
        if self.passed is None:
            return "not measured"
        inside = self.low <= self.found.low and self.found.high <= self.high
        outside = self.found.high < self.low or self.found.low > self.high
        if self.passed:
            return "passes, surely" if inside else "passes, interval reaches beyond"
        return "FAILS, surely" if outside else "FAILS, interval reaches inside"


def gates(results: Results) -> list[Gate]:
    student, cap = results.get(STUDENT, {}), results.get(CAP, {})
    of = {name: metric.estimate(student) for name, metric in BY_NAME.items()}
    share = bootstrap(ratio, [by_face(student, "opening"), by_face(cap, "opening")])
    limits = {"background": 3, "clothes": 3, "skin": 6, "hair": 6}
    listed = [
        Gate("lip sync, mean", 0.85, np.inf, of["sync"]),
        Gate("lip sync, share of the VAE's cap", 0.9, np.inf, share),
        Gate("lip sync, worst face", 0.75, np.inf, worst_face(student, "opening")),
        Gate("lip sync with other sounds", -np.inf, 0.10, of["chance"]),
        Gate("lag, frames", -1, 1, of["lag"]),
        Gate("mouth width", 0.5, np.inf, of["width"]),
        Gate("motion energy / truth", 0.8, 1.2, of["motion"]),
        *(Gate(f"{name} / the VAE's", 0.9, 1.1, _ratio_of_ratios(student, cap, BY_NAME[metric]))
          for name, metric in (("boundary ratio", "boundary"), ("seam of blocks", "seam"))),
        *(Gate(f"colour of {name}, /255", -np.inf, limit, of[name])
          for name, limit in limits.items()),
    ]  # fmt: skip
    long = results.get(LONG, {})
    for horizon in HORIZONS_S:
        # All horizons from the same long runs; without them, from the short ones as far as they go.
        name = f"drift_{horizon}s"
        drift = bootstrap(mean, [by_face(long, name)])
        found = drift if drift.known else bootstrap(mean, [by_face(student, name)])
        listed.append(Gate(f"worst region's drift at {horizon} s, /255", -np.inf, 1.5, found))
    return listed + _against_teacher(results)


def _ratio_of_ratios(one: Runs, other: Runs, metric: Metric) -> Estimate:
    columns = [by_face(runs, name) for runs in (one, other) for name in metric.names]
    return bootstrap(lambda a, b, c, d: ratio(a, b) / ratio(c, d), columns)


def _against_teacher(results: Results) -> list[Gate]:
    """Relative worsening of every metric against the many-step teacher, and what the teacher's own
    few steps say: where they cost it something, the student has to be better."""

    def found(one: str, word: str) -> set[str]:
        """Metrics in which `one` is surely "better" or "worse" than the teacher's few steps."""
        return {t for t, c in compare(results, one, TEACHER_IN_4).items() if says(c) == word}

    def counted(titles: set[str], *needed: str) -> Estimate:
        number = len(titles)
        measured = all(results.get(name) for name in (*needed, STUDENT, TEACHER_IN_4))
        return Estimate(number, number, number) if measured else UNKNOWN

    better, worse = found(STUDENT, "better"), found(STUDENT, "worse")
    lost = found(TEACHER, "better") - better
    return [
        *(Gate(f"worse than the 40-step teacher: {title}", -np.inf, ALLOWED, change)
          for title, change in compare(results, STUDENT, TEACHER).items()
          if title != BY_NAME["mood"].title),  # teachers are told none
        Gate("metrics where the teacher's 40 steps surely beat its 4, and the student does not",
             -np.inf, 0, counted(lost, TEACHER)),
        Gate("metrics surely better than the teacher's 4 steps", 1, np.inf, counted(better)),
        Gate("metrics surely worse than the teacher's 4 steps", -np.inf, 0, counted(worse)),
    ]  # fmt: skip


def compare(
    results: Results, name: str, beside: str, metrics: Sequence[Metric] = METRICS
) -> dict[str, Estimate]:
    """Every metric's worsening from setting `beside` to `name`, as a share of its scale."""
    one, other, changes = results.get(name, {}), results.get(beside, {}), {}
    for metric in metrics:
        change = metric.worsening(one, other)
        scale = 1.0 if metric.better == "one" else metric.scale
        if scale is None:
            scale = abs(metric.estimate(other, set(one) & set(other)).value)
        found = (change.value, change.low, change.high)
        changes[metric.title] = UNKNOWN
        if change.known and scale > 0:
            changes[metric.title] = Estimate(*(v / scale for v in found), change.num_faces)
    return changes


def says(change: Estimate) -> str:
    """What an interval allows to say about a worsening."""
    if not change.known:
        return "not measured"
    if change.low > 0:
        return "worse"
    return "better" if change.high < 0 else "does not discriminate"
