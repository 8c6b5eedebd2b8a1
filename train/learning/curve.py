"""A picture of how training goes, drawn again at every evaluation: `curve.png`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

PANEL = (360, 200)
MARGIN = 34
TIME = "cpu_seconds"
COLOURS = ("#1b6ca8", "#d1495b", "#3a7d44", "#b07d12")


def write_curves(
    path: Path, rows: Sequence[Mapping[str, float]], panels: Mapping[str, Sequence[str]]
) -> None:
    """One panel per title with the named figures of `rows` over their time; rows may lack some."""
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    image = Image.new("RGB", (PANEL[0] * columns, PANEL[1] * lines), "white")
    pen = ImageDraw.Draw(image)
    for number, (title, names) in enumerate(panels.items()):
        corner = (PANEL[0] * (number % columns), PANEL[1] * (number // columns))
        _panel(pen, corner, title, {n: [(r[TIME], r[n]) for r in rows if n in r] for n in names})
    image.save(path)


def _panel(
    pen: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    title: str,
    curves: Mapping[str, Sequence[tuple[float, float]]],
) -> None:
    left, top = corner[0] + MARGIN, corner[1] + MARGIN
    right, bottom = corner[0] + PANEL[0] - 10, corner[1] + PANEL[1] - 20
    points = [p for curve in curves.values() for p in curve if p[1] == p[1]]
    pen.text((left, corner[1] + 4), title, "black")
    pen.rectangle((left, top, right, bottom), outline="#bbbbbb")
    if not points:
        return
    low, high = min(y for _, y in points), max(y for _, y in points)
    last, span = max(x for x, _ in points) or 1, (high - low) or 1
    pen.text((corner[0] + 2, top - 6), f"{high:.3g}", "black")
    pen.text((corner[0] + 2, bottom - 6), f"{low:.3g}", "black")
    pen.text((right - 40, bottom + 4), f"{last:.0f}", "black")
    for index, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        places = [
            (left + (right - left) * x / last, bottom - (bottom - top) * (y - low) / span)
            for x, y in curve
            if y == y
        ]
        pen.line(places, fill=colour, width=2)
        pen.text((left + 90 * index, corner[1] + 18), name, colour)
