"""Haircuts: what lies behind the head and what lies over the forehead, in head coordinates.

The head's outline is about `face_width` wide either side of x = 0 and reaches from -0.68 (crown)
to `chin`. Each cut is a pair of lists of closed lines.
"""

from collections.abc import Callable

import numpy as np

from train.world.identity import Identity
from train.world.shapes import Array, Point, closed, curve, outline

Lines = list[Array]


def _cap(w: float, top: float, low: float, hairline: Array, puff: float = 0.035) -> Array:
    """Hair between an outer dome and a hairline that is listed from the right to the left."""
    w = w + puff
    dome = curve(
        (-w, low), (-w - 0.01, -0.25), (-0.74 * w, top * 0.83), (0, top), (0.74 * w, top * 0.83),
        (w + 0.01, -0.25), (w, low), steps=7,
    )  # fmt: skip
    return np.concatenate([dome, hairline])


def _ring(cx: float, cy: float, rx: float, ry: float, bumps: int, depth: float) -> Array:
    """A cloud: an oval with round bumps."""
    angle = np.linspace(0, 2 * np.pi, bumps * 8, endpoint=False)
    radius = 1 - depth + depth * 2 * np.abs(np.sin(angle * bumps / 2))
    return np.stack([cx + rx * radius * np.cos(angle), cy + ry * radius * np.sin(angle)], 1)


def _hairline(*half: Point) -> Array:
    """From its right half."""
    return curve(*half, *((-x, y) for x, y in reversed(half) if x))


def _even(w: float, height: float, low: float) -> Array:
    return _hairline((w - 0.05, low), (w - 0.07, -0.18), (w * 0.72, height + 0.06), (0, height))


def _parted(w: float, low: float) -> Array:
    """A fringe swept from a parting on the left over the forehead to the right."""
    return curve((w - 0.04, low), (w - 0.08, -0.2), (w * 0.55, -0.33), (0.02, -0.45), (-0.2, -0.53),
                 (-w * 0.6, -0.4), (0.06 - w, -0.16), (0.04 - w, low))  # fmt: skip


def _middle(w: float, low: float) -> Array:
    """Two curtains that meet above the nose."""
    return curve((w - 0.04, low), (w - 0.09, -0.12), (w * 0.66, -0.34), (0.02, -0.56),
                 (-w * 0.66, -0.34), (0.09 - w, -0.12), (0.04 - w, low))  # fmt: skip


def _bangs(w: float, low: float) -> Array:
    """A straight fringe just above the brows."""
    return _hairline((w - 0.05, low), (w - 0.09, -0.2), (w * 0.8, -0.28), (0.2, -0.3))


def _behind(w: float, top: float, *rest: Point) -> Array:
    """Hair behind the head: from the crown down to the last point, in the middle again."""
    return outline((0, top), (0.72 * w, top * 0.84), *rest)


def _quiff(w: float, top: float) -> Lines:
    wave = closed((-0.46, -0.44), (-0.5, -0.72), (-0.22, -0.86), (0.2, -0.9), (0.5, -0.8),
                  (0.42, -0.66), (0.46, -0.46), (0.1, -0.5), (-0.2, -0.46))  # fmt: skip
    return [_cap(w, top + 0.06, -0.06, _even(w, -0.46, -0.06), 0.015), wave]


def _spiky(w: float, volume: float) -> Lines:
    angle = np.linspace(np.pi * 1.06, np.pi * 1.94, 15)
    reach = np.where(np.arange(15) % 2, 1.17 + 0.07 * volume, 0.97)
    spikes = np.stack([(w + 0.02) * reach * np.cos(angle), 0.74 * reach * np.sin(angle) - 0.02], 1)
    low = np.array([[0.98 * w, -0.05], [-0.98 * w, -0.05]])
    zigzag = np.stack([np.linspace(0.8, -0.8, 9) * w, np.where(np.arange(9) % 2, -0.34, -0.48)], 1)
    return [np.concatenate([spikes, low[:1], zigzag, low[1:]])]


def _curly(w: float, top: float) -> Lines:
    curls = [_ring(x, y, 0.15, 0.13, 5, 0.08) for x, y in
             ((-0.4, -0.42), (-0.2, -0.52), (0.02, -0.55), (0.24, -0.5), (0.42, -0.4))]  # fmt: skip
    return [_cap(w, top, -0.1, _even(w, -0.4, -0.1), 0.02), *curls]


_BACK: dict[str, Callable[[float, float, float], Array]] = {
    "bob": lambda w, top, _: _behind(w, top, (w + 0.06, -0.25), (w + 0.1, 0.25), (w + 0.06, 0.56),
                                     (w * 0.75, 0.64), (0, 0.62)),
    "fringe": lambda w, top, _: _behind(w, top, (w + 0.06, -0.25), (w + 0.08, 0.3),
                                        (w + 0.04, 0.48), (w * 0.7, 0.5), (0, 0.5)),
    "long": lambda w, top, _: _behind(w, top, (w + 0.05, -0.2), (w + 0.1, 0.3),
                                      (w + 0.1, 1.2 - 0.14), (w * 0.7, 1.2), (0, 1.2)),
    "wavy": lambda w, top, _: _behind(w, top, (w + 0.08, -0.3), (w + 0.05, -0.05),
                                      (w + 0.16, 0.18), (w + 0.1, 0.42), (w + 0.2, 0.62),
                                      (w + 0.1, 0.9), (w * 0.6, 0.98), (0, 0.9)),
    "curly": lambda w, _, volume: _ring(0, -0.28, w * 1.28 * volume, 0.58 * volume, 13, 0.07),
    "bun": lambda _, __, volume: _ring(0, -0.78, 0.23 * volume, 0.17, 3, 0.02),
    "ponytail": lambda w, *_: closed((w - 0.16, -0.52), (w + 0.16, -0.6), (w + 0.3, -0.3),
                                     (w + 0.24, 0.1), (w + 0.3, 0.42), (w + 0.12, 0.5),
                                     (w + 0.04, 0.1), (w + 0.06, -0.2)),
}  # fmt: skip
_FRONT: dict[str, Callable[[float, float, float], Lines]] = {
    "short": lambda w, top, _: [_cap(w, top, -0.02, _even(w, -0.42, -0.02))],
    "side": lambda w, top, _: [_cap(w, top, 0.0, _parted(w, 0.0))],
    "quiff": lambda w, top, _: _quiff(w, top),
    "spiky": lambda w, _, volume: _spiky(w, volume),
    "buzz": lambda w, *_: [_cap(w, -0.71, -0.1, _even(w, -0.5, -0.1), 0.0)],
    "bob": lambda w, top, _: [_cap(w, top, 0.1, _parted(w, 0.1))],
    "fringe": lambda w, top, _: [_cap(w, top, 0.12, _bangs(w, 0.12))],
    "long": lambda w, top, _: [_cap(w, top, 0.16, _middle(w, 0.16), 0.05)],
    "wavy": lambda w, top, _: [_cap(w, top, 0.14, _parted(w, 0.14), 0.05)],
    "curly": lambda w, top, _: _curly(w, top),
    "bun": lambda w, *_: [_cap(w, -0.72, -0.02, _even(w, -0.44, -0.02), 0.015)],
    "ponytail": lambda w, top, _: [_cap(w, top + 0.04, 0.02, _parted(w, 0.02), 0.015)],
}


def haircut(who: Identity) -> tuple[Lines, Lines]:
    """Lines behind the head and lines in front of it, both possibly empty."""
    of = (who.face_width, -0.68 - 0.13 * who.hair_volume, who.hair_volume)
    back = [_BACK[who.cut](*of)] if who.cut in _BACK else []
    front = _FRONT[who.cut](*of) if who.cut in _FRONT else []
    flip = [who.flip, 1]
    return [line * flip for line in back], [line * flip for line in front]
