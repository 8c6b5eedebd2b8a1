"""Every metric that is reported: which figures it is made of, and what is good."""

from dataclasses import dataclass

import numpy as np

from train.evaluate.statistics import UNKNOWN, Estimate, Runs, bootstrap, by_face, mean, ratio

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Metric:
    """The mean over faces of a figure, or its ratio to the mean of another one."""

    name: str
    title: str
    better: str
    """high, low, one (a ratio that should be 1) or zero."""
    figure: str
    over: str | None = None
    scale: float | None = None
    """What five per cent are taken of when two settings are compared; None is the other's value.
    For metrics that are perfect near zero it is their gate or usual size."""

    @property
    def names(self) -> list[str]:
        """The figures that it is made of."""
        return [name for name in (self.figure, self.over) if name]

    def estimate(self, runs: Runs, only: set[tuple[int, int]] | None = None) -> Estimate:
        columns = [by_face(runs, name, only) for name in self.names]
        return bootstrap(mean if self.over is None else ratio, columns)

    def badness(self, value: Array) -> Array:
        """Larger is worse."""
        if self.better == "one":
            return np.abs(np.log(np.maximum(value, 1e-6)))
        return {"high": -value, "low": value, "zero": np.abs(value)}[self.better]

    def worsening(self, one: Runs, other: Runs) -> Estimate:
        """How much worse `one` is than `other`, in the metric's unit (of a ratio: relative).

        Over the faces and seeds that both have; below zero it is better.
        """
        both = set(one) & set(other)
        columns = [by_face(runs, name, both) for runs in (one, other) for name in self.names]
        form = mean if self.over is None else ratio

        def difference(*values: Array) -> Array:
            half = len(values) // 2
            first, second = form(*values[:half]), form(*values[half:])
            return self.badness(first) - self.badness(second)

        return bootstrap(difference, columns)


METRICS = (
    Metric("sync", "lip sync: opening, correlation", "high", "opening"),
    Metric("width", "lip sync: width, correlation", "high", "width"),
    Metric("chance", "|correlation| with other sounds", "low", "chance", scale=0.1),
    Metric("lag", "lag of the picture, frames", "zero", "lag", scale=1.0),
    Metric("open_in_silence", "opening in silence", "low", "open_in_silence", scale=0.1),
    Metric("closed_in_silence", "share of silent frames with closed lips", "high",
           "closed_in_silence"),
    Metric("motion", "motion energy (over 160 ms) / truth", "one", "change_slow",
           "change_slow_true"),
    Metric("change", "change per frame / truth", "one", "change", "change_true"),
    Metric("head_motion", "extent of head motion / truth", "one", "head_motion",
           "head_motion_true"),
    Metric("boundary", "change at borders of latents / inside", "one", "change_border",
           "change_inside"),
    Metric("seam", "change at borders of blocks / other borders", "one", "change_seam",
           "change_other_border"),
    Metric("flicker", "flicker of still pixels at borders, /255", "low", "flicker", scale=1.0),
    Metric("sharpness", "sharpness / truth", "one", "sharpness", "sharpness_true"),
    Metric("background", "colour error of the background, /255", "low", "colour_background",
           scale=3.0),
    Metric("clothes", "colour error of clothes, /255", "low", "colour_clothes", scale=3.0),
    Metric("skin", "colour error of skin, /255", "low", "colour_skin", scale=6.0),
    Metric("hair", "colour error of hair, /255", "low", "colour_hair", scale=6.0),
    Metric("is_itself", "share of frames that look most like their own character", "high",
           "is_itself"),
    Metric("margin", "margin to the most alike other character", "high", "margin"),
    Metric("mood", "mood of the mouth as the prompt alone tells it", "high", "mood"),
    Metric("drift", "worst region's drift to the end, /255", "low", "drift_end", scale=1.5),
    Metric("diversity", "difference between seeds / truth", "one", "diversity",
           "diversity_true"),
)  # fmt: skip
BY_NAME = {metric.name: metric for metric in METRICS}


def worst_face(runs: Runs, figure: str) -> Estimate:
    """The lowest face, its seeds averaged; the interval is the range of its seeds."""
    faces = by_face(runs, figure)
    if not faces:
        return UNKNOWN
    face = min(faces, key=faces.__getitem__)
    seeds = [f[figure] for (of, _), f in runs.items() if of == face and figure in f]
    seeds = [s for s in seeds if np.isfinite(s)]
    return Estimate(faces[face], min(seeds), max(seeds), len(faces))
