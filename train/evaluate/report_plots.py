"""The plots of an evaluation, each as a PNG in a data URI."""

import base64
import io
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from train.evaluate.gates import Results
from train.evaluate.metrics import BY_NAME, Metric, by_face
from train.evaluate.metrics_motion import LARGEST_LAG
from train.evaluate.metrics_picture import COLOURED

Curves = Mapping[str, Sequence[Mapping[str, np.ndarray]]]  # setting -> its `Score.curves`

SHOWN = ("sync", "width", "motion", "boundary", "skin", "background", "sharpness", "margin")
TELLING = tuple(BY_NAME[name] for name in SHOWN)
LINES = {"background": "#1b6ca8", "clothes": "#b07d12", "skin": "#d1495b", "hair": "#3a7d44"}


def encoded(picture: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64," + base64.b64encode(picture).decode()


def finished(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.tight_layout()
    figure.savefig(buffer, format="png", dpi=90)
    plt.close(figure)
    return encoded(buffer.getvalue())


def forest(results: Results, metrics: Sequence[Metric] = TELLING) -> str:
    """Every setting's interval in the most telling metrics."""
    names = [name for name, runs in results.items() if runs]
    columns = 4
    rows = -(-len(metrics) // columns)
    size = (14, rows * (0.8 + 0.24 * len(names)))
    figure, axes = plt.subplots(rows, columns, figsize=size, sharey=True)
    for axis in np.ravel(axes)[len(metrics) :]:
        axis.axis("off")
    for axis, metric in zip(np.ravel(axes), metrics, strict=False):
        for place, name in enumerate(names):
            found = metric.estimate(results[name])
            if found.known:
                axis.plot([found.low, found.high], [place, place], color="#1b6ca8", lw=2)
                axis.plot(found.value, place, "o", color="#1b6ca8", ms=4)
        axis.set_title(textwrap.fill(metric.title, 40), fontsize=9)
        axis.set_yticks(range(len(names)), names, fontsize=8)
        axis.grid(axis="x", alpha=0.3)
        axis.set_ylim(len(names) - 0.5, -0.5)
    return finished(figure)


def faces(results: Results, settings: Sequence[str]) -> str:
    """Lip sync face by face: what the mean hides."""
    figure, axis = plt.subplots(figsize=(8, 3.2))
    for place, name in enumerate(settings):
        values = sorted(by_face(results[name], "opening").values())
        spread = np.linspace(-0.25, 0.25, len(values)) if len(values) > 1 else np.zeros(1)
        axis.plot(place + spread[: len(values)], values, ".", ms=5)
    axis.set_xticks(range(len(settings)), settings, fontsize=8)
    axis.set_ylabel("lip sync of each face")
    axis.grid(axis="y", alpha=0.3)
    return finished(figure)


def lags(curves: Curves) -> str:
    """Correlation of the mouth with the sound moved by each lag."""
    figure, axis = plt.subplots(figsize=(6, 3.2))
    for name, runs in curves.items():
        mean = np.mean([run["lags"] for run in runs], 0)
        axis.plot(40 * np.arange(-LARGEST_LAG, LARGEST_LAG + 1), mean, label=name)
    axis.axvspan(-40, 40, color="#00000011")
    axis.set(xlabel="picture behind the sound, ms", ylabel="correlation")
    axis.legend(fontsize=8)
    return finished(figure)


def over_time(runs: Sequence[Mapping[str, np.ndarray]], title: str) -> str:
    """Colour errors of the regions, and the margin of identity, over a long stream."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 3.4))
    seconds = runs[0]["piece_second"]
    for region in COLOURED:
        values = np.stack([run[f"piece_colour_{region}"] for run in runs])
        band(left, seconds, values, region, LINES[region])
    left.legend(fontsize=8)
    margins = np.stack([run["piece_margin"] for run in runs])
    band(right, seconds, margins, "margin to the next character", "#333333")
    for axis, unit in ((left, "colour error, /255"), (right, "identity margin")):
        axis.set(xlabel="seconds", ylabel=unit)
        axis.set_title(title, fontsize=9)
        axis.grid(alpha=0.3)
    return finished(figure)


def band(
    axis, seconds: np.ndarray, values: np.ndarray, label: str, colour: str | None = None
) -> None:
    """The median of the faces and their middle half; a face may lack a region."""
    shown = np.isfinite(values).any(0)
    if not shown.any():
        return
    low, middle, high = np.nanquantile(values[:, shown], [0.25, 0.5, 0.75], axis=0)
    (line,) = axis.plot(seconds[shown], middle, label=label, color=colour)
    axis.fill_between(seconds[shown], low, high, color=line.get_color(), alpha=0.15)


def mouths(curves: Curves, seconds: float = 10.0) -> str:
    """One face's mouth as asked for by its sound, and as read from the frames."""
    figure, axis = plt.subplots(figsize=(12, 3))
    count = int(25 * seconds)
    first = next(iter(curves.values()))[0]
    time = np.arange(count) / 25
    true = first["true_opening"][:count]
    axis.fill_between(time[: len(true)], true, color="#00000022", label="asked for")
    for name, runs in curves.items():
        shown = runs[0]["at"] < count
        axis.plot(runs[0]["at"][shown] / 25, runs[0]["opening"][shown], label=name, lw=1)
    axis.set(xlabel="seconds", ylabel="opening of the mouth")
    axis.legend(fontsize=8, ncols=4)
    return finished(figure)
