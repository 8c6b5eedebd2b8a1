"""Eyes, brows and mouth of every frame, drawn in the few pixels they can reach.

T frames   h w a crop of the picture   x y [T, h, w] head coordinates of its pixels (face parallax
taken off). Each part returns strokes: pairs of coverage [T, h, w] and colour, back to front.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from train.world.face import EYE_Y, INK, MOUTH_Y, WHITE, ink_of
from train.world.identity import Colour, Identity, mix
from train.world.motion import Mood

Stroke = tuple[Tensor, Colour]

TONGUE: Colour = (0.88, 0.42, 0.44)
INSIDE: Colour = (0.42, 0.12, 0.16)


@dataclass(frozen=True, slots=True)
class Pen:
    """Soft edges, `edge` head units wide ([T, 1, 1])."""

    edge: Tensor

    def fill(self, distance: Tensor) -> Tensor:
        return (0.5 - distance / self.edge).clamp(0, 1)

    def line(self, distance: Tensor, width: Tensor | float) -> Tensor:
        """Around distance 0; right for lines thinner than the edge too."""
        inner, outer = distance - width / 2, distance + width / 2
        return self.fill(inner) - self.fill(outer)


def ellipse(x: Tensor, y: Tensor, rx: Tensor | float, ry: Tensor | float) -> Tensor:
    """Signed distance to an ellipse about the origin, first order beside the edge. Beside the ends
    of a very flat one, such as a closing eye, that is far too small; there the distance to its box
    decides."""
    u, v = x / rx, y / ry
    radius = torch.hypot(u, v)
    distance = radius * (radius - 1) / torch.hypot(u / rx, v / ry).clamp(min=1e-5)
    return torch.maximum(distance, torch.maximum(x.abs() - rx, y.abs() - ry))


def draw_eye(
    pen: Pen,
    x: Tensor,
    y: Tensor,
    side: int,
    who: Identity,
    lid: Tensor,
    gaze: tuple[Tensor, Tensor],
) -> Iterator[Stroke]:
    """One eye; `lid` [T, 1, 1] is how open, about 1; `gaze` two of [T, 1, 1] in [-1, 1]."""
    rx, ry = who.eye_size
    u, v = x - side * who.eye_gap, y - EYE_Y
    height = ry * lid.clamp(min=0.04)
    v = v - 0.35 * (ry - height).clamp(min=0)
    ink = mix(INK, who.hair, 0.25)
    if who.eye_dots:
        yield pen.fill(ellipse(u - 0.02 * gaze[0], v - 0.015 * gaze[1], 0.068, height * 0.8)), INK
        shine = ellipse(u - 0.025, v + 0.4 * height, 0.024, 0.024)
        yield pen.fill(shine) * (lid > 0.6), WHITE
    else:
        white = ellipse(u, v, rx, height)
        inside = pen.fill(white)
        yield inside, WHITE
        size = 0.74 * min(rx, ry)
        gx, gy = u - gaze[0] * 0.42 * rx, v - gaze[1] * 0.30 * ry - 0.006
        yield pen.fill(torch.hypot(gx, gy) - size) * inside, who.iris
        yield pen.fill(torch.hypot(gx, gy) - 0.52 * size) * inside, INK
        yield pen.fill(torch.hypot(gx - 0.035, gy + 0.038) - 0.024) * inside, WHITE
        width = 0.052 if who.lashes else 0.036
        upper = (0.6 - v / (0.45 * height + pen.edge)).clamp(0, 1)
        yield pen.line(white, width) * upper, ink
    if who.lashes:
        sx, sy = side * u - 0.86 * rx, v + 0.45 * height
        flick = torch.hypot(sx - sx.clamp(0, 0.05), sy + 0.8 * sx.clamp(0, 0.05))
        yield pen.fill(flick - 0.018), ink


def draw_brow(
    pen: Pen, x: Tensor, y: Tensor, side: int, who: Identity, mood: Mood, raised: Tensor
) -> Iterator[Stroke]:
    """One brow, `raised` [T, 1, 1] picture units above its rest."""
    length = 0.145
    u = side * x - who.eye_gap - 0.01  # grows outwards
    at = u.clamp(-length, length)
    rest = EYE_Y - who.eye_size[1] - 0.085 - mood.brow_raise - raised
    bow = rest - who.brow_arch * (1 - (at / length) ** 2) + mood.brow_tilt * at
    slope = 2 * who.brow_arch * at / length**2 + mood.brow_tilt
    distance = torch.hypot(u - at, (y - bow) / torch.sqrt(1 + slope**2))
    width = who.brow_width * (1 - 0.3 * (at / length))
    colour = mix(who.hair, INK, 0.35)
    if sum(abs(a - b) for a, b in zip(colour, who.skin, strict=True)) < 0.5:
        colour = mix(colour, INK, 0.5)
    yield pen.fill(distance - width / 2), colour


def draw_mouth(
    pen: Pen, x: Tensor, y: Tensor, who: Identity, mood: Mood, mouth: tuple[Tensor, Tensor, Tensor]
) -> Iterator[Stroke]:
    """Lips, inside, teeth and tongue; `mouth` is opening, width, roundness, each [T, 1, 1]."""
    opening, width, roundness = mouth
    half = who.mouth_width * (0.55 + 0.66 * width)
    height = 0.28 * opening * (1 + 0.12 * roundness)
    lift = mood.lift * (1 - 0.55 * roundness)
    v = y - MOUTH_Y + lift * ((x / who.mouth_width) ** 2 - 0.45).clamp(max=1.2)
    up, low = 0.36 * height, 0.64 * height
    lip = who.lip_height * (1 + 0.6 * roundness)
    lips = torch.where(
        v < 0,
        ellipse(x, v, half + 0.4 * lip, up + 0.85 * lip),
        ellipse(x, v, half + 0.4 * lip, low + 1.15 * lip),
    )
    yield pen.fill(lips), who.lip
    thin = 0.3 * pen.edge
    inside = torch.where(
        v < 0, ellipse(x, v, half, up.clamp(min=thin)), ellipse(x, v, half, low.clamp(min=thin))
    )
    hole = pen.fill(inside) * (height / (2 * thin)).clamp(0, 1)
    yield hole, INSIDE
    tongue = ellipse(x, v - low, 0.62 * half, 0.55 * low.clamp(min=0.02))
    yield hole * pen.fill(tongue) * ((height - 0.08) / 0.06).clamp(0, 1), TONGUE
    teeth = -up + torch.minimum(0.9 * height, 0.08 - 0.03 * roundness)
    shown = ((height - 0.012) / 0.035).clamp(0, 1) * (1 - 0.6 * roundness)
    yield hole * pen.fill(v - teeth) * shown, WHITE
    line_ink = mix(ink_of(who.lip), INK, 0.2)
    ends = x.abs() - half
    closed = torch.hypot(ends.clamp(min=0), v)
    taper = 0.040 - 0.014 * (x / half).abs().clamp(max=1)
    yield pen.fill(closed - taper / 2) * (1 - height / 0.05).clamp(0, 1), line_ink
