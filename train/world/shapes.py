"""Signed distances of flat shapes, and a canvas that paints them with soft edges.

Distances are negative inside and in picture units: the picture is [-1, 1] x [-1, 1], x to the
right and y down. A canvas is denser and larger than its picture, so that a moved, tilted picture
can be sampled from it; its edges are soft by the *picture's* pixel, so that a bilinear sample of it
has no aliasing.
"""

from collections.abc import Sequence

import numpy as np

from train.world.identity import Colour

EXTENT = 1.32  # a canvas spans [-EXTENT, EXTENT] in both directions
DENSITY = 2  # canvas texels per picture pixel, each way
EDGE_PIXELS = 2.2  # of a soft edge, picture pixels: no steps in motion, and kind to a small codec
FAR = 9.0

Array = np.ndarray
Point = tuple[float, float]


def catmull_rom(controls: Sequence[Point], steps: int) -> Array:
    """[n, 2]: a smooth line from the second control point to the last but one."""
    p = np.asarray(controls, float)
    a, b, c, d = (p[i : len(p) - 3 + i, None] for i in range(4))
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    span = (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    return np.concatenate([(b + 0.5 * span).reshape(-1, 2), p[-2:-1]])


def curve(*controls: Point, steps: int = 6) -> Array:
    return catmull_rom([controls[0], *controls, controls[-1]], steps)


def closed(*controls: Point, steps: int = 5) -> Array:
    """A smooth closed line through all control points."""
    return catmull_rom([controls[-1], *controls, *controls[:2]], steps)[:-1]


def outline(*half: Point, steps: int = 5) -> Array:
    """A smooth closed line, from the right half of its control points listed top to bottom."""
    return closed(*half, *((-x, y) for x, y in reversed(half) if x != 0), steps=steps)


def mirrored(points: Array | Sequence[Point], side: float) -> Array:
    return np.asarray(points, float) * [side, 1]


def grid(size: int) -> tuple[Array, Array]:
    """x and y [side, side] of the canvas texels for a picture of `size` pixels."""
    side = 2 * round(EXTENT * size * DENSITY / 2)
    axis = ((np.arange(side) + 0.5) / side * 2 - 1) * EXTENT
    x, y = np.meshgrid(axis.astype(np.float32), axis.astype(np.float32))
    return x, y


def _to_segments(x: Array, y: Array, start: Array, end: Array) -> tuple[Array, Array]:
    """Squared distance [N, h, w] to N segments, and where along each [0, 1] the nearest point is.
    `x` is [w] and `y` [h, 1]."""
    start, edge = start.astype(np.float32), (end - start).astype(np.float32)
    px, py = x - start[:, 0, None, None], y - start[:, 1, None, None]
    ex, ey = edge[:, 0, None, None], edge[:, 1, None, None]
    scale = 1 / (ex * ex + ey * ey + 1e-12)
    along = px * (ex * scale) + py * (ey * scale)
    np.clip(along, 0, 1, out=along)
    return (px - ex * along) ** 2 + (py - ey * along) ** 2, along


def _box(x: Array, y: Array, points: Array, margin: float) -> tuple[slice, slice]:
    (x0, y0), (x1, y1) = points.min(0) - margin, points.max(0) + margin
    rows = np.searchsorted(y[:, 0], (y0, y1))
    columns = np.searchsorted(x[0], (x0, x1))
    return slice(*rows), slice(*columns)


def polygon(x: Array, y: Array, points: Array, margin: float = 0.1) -> Array:
    """Distance to a closed line; `FAR` where farther than `margin` from its bounding box."""
    result = np.full(x.shape, FAR, np.float32)
    box = _box(x, y, points, margin)
    px, py, nxt = x[box][:1], y[box][:, :1], np.roll(points, -1, 0)
    if not px.size or not py.size:
        return result
    distance = np.sqrt(_to_segments(px, py, points, nxt)[0].min(0))
    ay, by = points[:, 1, None, None], nxt[:, 1, None, None]
    ax, bx = points[:, 0, None, None], nxt[:, 0, None, None]
    crosses = (ay > py) != (by > py)
    at = np.where(crosses, ax + (py - ay) * (bx - ax) / np.where(ay == by, 1, by - ay), -FAR)
    inside = (px < at.astype(np.float32)).sum(0) % 2 == 1
    result[box] = np.where(inside, -distance, distance)
    return result


def stroke(x: Array, y: Array, points: Array, width: float, taper: float = 0.5) -> Array:
    """A line with round ends, `taper` of its width thinner towards both of them."""
    result = np.full(x.shape, FAR, np.float32)
    box = _box(x, y, points, width + 0.1)
    px, py = x[box][:1], y[box][:, :1]
    if not px.size or not py.size:
        return result
    squared, along = _to_segments(px, py, points[:-1], points[1:])
    nearest = squared.argmin(0)[None]
    at = nearest[0] + np.take_along_axis(along, nearest, 0)[0]
    radius = width / 2 * (1 - taper + taper * np.sin(np.pi * at / (len(points) - 1)))
    result[box] = np.sqrt(np.take_along_axis(squared, nearest, 0)[0]) - radius
    return result


def ellipse(x: Array, y: Array, cx: float, cy: float, rx: float, ry: float) -> Array:
    """Exact on the edge, first order beside it."""
    u, v = (x - cx) / rx, (y - cy) / ry
    radius = np.hypot(u, v)
    return radius * (radius - 1) / np.maximum(np.hypot(u / rx, v / ry), 1e-6)


class Canvas:
    """Premultiplied colour, coverage and "main" weight of one layer, painted back to front.
    `texels` is [5, side, side] float32 in [0, 1]: red, green, blue, alpha, and how much of alpha is
    the layer's main material (the skin of a head, the cloth of a body)."""

    def __init__(self, size: int) -> None:
        self.x, self.y = grid(size)
        self.edge = EDGE_PIXELS * 2 / size
        self.texels = np.zeros((5, *self.x.shape), np.float32)

    def coverage(self, distance: Array) -> Array:
        return np.clip(0.5 - distance / self.edge, 0, 1)

    def fill(
        self,
        distance: Array,
        colour: Colour,
        *,
        main: bool = True,
        opacity: float | Array = 1.0,
        within: Array | None = None,
        edge: float = 0.0,
        ink: Colour | None = None,
    ) -> None:
        """Paint a shape; `edge` adds an outline of that width around it in the colour `ink`."""
        if edge > 0 and ink is not None:
            self.fill(distance - edge, ink, main=main, opacity=opacity, within=within)
        cover = self.coverage(distance) * opacity
        if within is not None:
            cover = cover * self.coverage(within)
        self.blend(cover, colour, main)

    def blend(self, cover: Array, colour: Colour, main: bool) -> None:
        """Paint with a coverage [side, side] of one's own; `colour` is RGB."""
        rows = np.flatnonzero(cover.any(1))
        if not len(rows):
            return
        touched = slice(rows[0], rows[-1] + 1)
        cover, texels = cover[touched], self.texels[:, touched]
        texels *= 1 - cover
        texels[:3] += cover * np.asarray(colour, np.float32)[:, None, None]
        texels[3] += cover
        texels[4] += cover * main
