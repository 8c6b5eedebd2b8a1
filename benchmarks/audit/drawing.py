"""How the pictures look: panels, points with their spread, SVG that may stand beside others."""

import io
import re
from collections.abc import Mapping
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from benchmarks.audit.figures import Figure

COLOURS = ("#2a78d6", "#d95926", "#1b8a5a", "#8a4fbf", "#9a6b00")
BLUE, GREY, RED = COLOURS[0], "0.6", "#c0392b"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # letters stay letters: small, and a reader can search them
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.frameon": False,
}
WIDTH = 11.0


def panels(count: int, height: float, in_a_row: int = 4) -> tuple[Drawing, list[Axes]]:
    """So many axes, side by side and then below; `height` of a row in inches."""
    across = min(count, in_a_row)
    rows = -(-count // across)
    size = (WIDTH, rows * height)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, across, figsize=size, squeeze=False)
    for spare in axes.flat[count:]:
        spare.remove()
    return figure, list(axes.flat[:count])


def errors(
    axes: Axes, points: Mapping[int, Figure], label: str, colour: str, style: str = "-"
) -> None:
    """A line through medians; a bar from the lowest to the highest, where a spread is known."""
    at = sorted(points)
    seen = [points[x] for x in at]
    values = [figure.value for figure in seen]
    below = [0.0 if f.low is None else max(0.0, f.value - f.low) for f in seen]
    above = [0.0 if f.high is None else max(0.0, f.high - f.value) for f in seen]
    marker = "o" if style == "-" else ""
    look: dict[str, Any] = {"color": colour, "label": label, "linestyle": style, "marker": marker}
    axes.errorbar(at, values, [below, above], capsize=3, **look)


def bars(axes: Axes, at: int, figure: Figure, colour: str) -> None:
    """A bar from the left in row `at`; its spread, where one is known, as a thin line."""
    axes.barh(at, figure.value, height=0.7, color=colour)
    if figure.low is not None and figure.high is not None:
        axes.plot([figure.low, figure.high], [at, at], color="0.2", linewidth=1.2)


def svg(figure: Drawing, name: str) -> str:
    """The text of an <svg>; its ids begin with `name`, since a page is one space of names."""
    text = io.StringIO()
    with plt.rc_context(STYLE | {"svg.hashsalt": name}):
        figure.tight_layout()
        figure.savefig(text, format="svg", metadata={"Date": None})
    plt.close(figure)
    whole = text.getvalue()
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", whole[whole.index("<svg") :])
