"""Frames from a character and its motion: moved layers, then the parts drawn afresh.

T frames   S the picture's side in pixels   L layers
"""

from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from train.world import features
from train.world.face import EYE_Y, HEAD_REST, MOUTH_Y, paint
from train.world.identity import Identity
from train.world.motion import MOODS, Expression, Mood, Mouth, Pose, part
from train.world.shapes import EDGE_PIXELS, EXTENT

REGIONS = ("background", "clothes", "skin", "hair", "eyes", "mouth", "accessory")  # by label
CLOSE = (1.0, 0.0)
CHUNK = 50  # frames drawn at a time, which bounds the memory
JAW_DROP = 0.07
EYES_BOX = (0.46, -0.40, 0.17)  # half width, top, bottom of what they can reach, head coordinates
MOUTH_BOX = (0.41, 0.25, 0.68)

_KINDS = {  # main and other material of each layer
    "back": ("hair", "hair"),
    "body": ("clothes", "skin"),
    "head": ("skin", "hair"),
    "front": ("hair", "hair"),
    "features": ("skin", "accessory"),
}
Behind = Callable[[Tensor, slice], None]
"""Paints into what is behind the person, [T, 3, S, S] of RGB in [0, 1], for a slice of frames."""
_PARALLAX = {"back": -0.35, "head": 0.2, "front": 0.1, "features": 1.0}


@dataclass(frozen=True, slots=True)
class Rendering:
    """Pictures, and what each pixel of them shows."""

    frames: np.ndarray  # uint8 [T, S, S, 3]
    regions: np.ndarray  # uint8 [T, S, S], an index into `REGIONS` for each pixel


@lru_cache(maxsize=64)
def _texels(who: Identity, size: int) -> dict[str, Tensor]:
    return {name: torch.from_numpy(layer)[None] for name, layer in paint(who, size).items()}


def axes(size: int) -> tuple[Tensor, Tensor]:
    """x and y [S, S] of the pixel centres in picture coordinates."""
    axis = (torch.arange(size) * 2 + 1) / size - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x, y


def _columns(curves: Pose | Expression | Mouth) -> list[Tensor]:
    """Of each curve [T, 1, 1]."""
    return [torch.from_numpy(v.astype(np.float32))[:, None, None] for v in astuple(curves)]


@torch.no_grad()
def render(
    who: Identity,
    pose: Pose,
    expression: Expression,
    mouth: Mouth,
    mood: str,
    size: int,
    behind: Behind | None = None,
    view: tuple[float, float] = CLOSE,
) -> Rendering:
    """Pictures of a character; `behind`: paints over its wall before it is painted itself.
    `view`: how much is in the picture, times what a portrait has, and how far that looks down."""
    texels, num_frames = _texels(who, size), len(pose.x)
    frames = np.empty((num_frames, size, size, 3), np.uint8)
    regions = np.empty((num_frames, size, size), np.uint8)
    for start in range(0, num_frames, CHUNK):
        rows = slice(start, min(start + CHUNK, num_frames))
        picture = _Picture(who, texels, part(pose, rows), size, view)
        if behind is not None:
            behind(picture.rgb, rows)
        picture.compose(part(expression, rows), part(mouth, rows), MOODS[mood])
        frames[rows] = (picture.rgb.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        regions[rows] = picture.labels.numpy()
    return Rendering(frames, regions)


class _Picture:
    """A chunk of frames being painted: `rgb` [T, 3, S, S] and `labels` [T, S, S]."""

    def __init__(
        self,
        who: Identity,
        texels: dict[str, Tensor],
        pose: Pose,
        size: int,
        view: tuple[float, float] = CLOSE,
    ) -> None:
        self.who, self.texels = who, texels
        self.x, self.y = (axis * view[0] for axis in axes(size))
        self.y = self.y + view[1]
        x, y, tilt, zoom, self.turn, self.nod = _columns(pose)
        dx, dy = self.x - HEAD_REST[0] - x, self.y - HEAD_REST[1] - y
        cos, sin = torch.cos(tilt) / zoom, torch.sin(tilt) / zoom
        self.head = dx * cos + dy * sin, dy * cos - dx * sin
        self.sway, self.pen = (
            (0.3 * x, 0.3 * y),
            features.Pen(EDGE_PIXELS * 2 * view[0] / size / zoom),
        )
        num_frames = self.turn.shape[0]
        wall = self._sample("wall", self.x[None], self.y[None])
        self.rgb = wall[:, :3].expand(num_frames, -1, -1, -1).clone()
        self.labels = torch.zeros(num_frames, size, size, dtype=torch.uint8)

    def compose(self, expression: Expression, mouth: Mouth, mood: Mood) -> None:
        self._layer("back")
        self._over("body", self._sample("body", self.x - self.sway[0], self.y - self.sway[1]))
        opening, width, roundness = _columns(mouth)
        self._layer("head", jaw=JAW_DROP * opening)
        self._draw_mouth(mood, (opening, width, roundness))
        self._layer("front")
        self._draw_eyes(expression, mood)
        self._layer("features")

    def _face(self, share: float) -> tuple[Tensor, Tensor]:
        return self.head[0] - share * self.turn, self.head[1] - share * self.nod

    def _layer(self, name: str, jaw: Tensor | None = None) -> None:
        if not self.texels[name].any():
            return
        x, y = self._face(_PARALLAX[name])
        if jaw is not None:  # the chin goes down with the jaw, all above the lips stays
            y = y - jaw * ((y - 0.30) / 0.38).clamp(0, 1)
        self._over(name, self._sample(name, x, y))

    def _sample(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        places = torch.stack((x, y), -1) / EXTENT
        source = self.texels[name].expand(len(places), -1, -1, -1)
        return F.grid_sample(source, places, align_corners=False, padding_mode="border")

    def _over(self, name: str, layer: Tensor) -> None:
        alpha, main = layer[:, 3], layer[:, 4]
        self.rgb = self.rgb * (1 - alpha[:, None]) + layer[:, :3]
        first, second = (REGIONS.index(kind) for kind in _KINDS[name])
        kind = torch.where(main > 0.5 * alpha, first, second).byte()
        self.labels = torch.where(alpha > 0.5, kind, self.labels)

    def _crop(self, box: tuple[float, float, float]) -> tuple[tuple[slice, ...], Tensor, Tensor]:
        """What of the picture a box of the face can cover in any frame, and its coordinates."""
        half, top, bottom = box
        x, y = self._face(1.0)
        covered = ((x.abs() < half) & (y > top) & (y < bottom)).any(0)
        rows, columns = covered.any(1).nonzero(), covered.any(0).nonzero()
        crop = (slice(None), slice(0, 0), slice(0, 0))
        if len(rows):
            ends = (slice(max(0, int(v[0]) - 1), int(v[-1]) + 2) for v in (rows, columns))
            crop = (slice(None), *ends)
        return crop, x[crop], y[crop]

    def _draw_mouth(self, mood: Mood, mouth: tuple[Tensor, ...]) -> None:
        crop, x, y = self._crop(MOUTH_BOX)
        self._paint(crop, features.draw_mouth(self.pen, x, y, self.who, mood, mouth))
        reach = features.ellipse(x, y - MOUTH_Y - 0.05, MOUTH_BOX[0] - 0.02, 0.21)
        self.labels[crop][reach < 0] = REGIONS.index("mouth")

    def _draw_eyes(self, expression: Expression, mood: Mood) -> None:
        crop, x, y = self._crop(EYES_BOX)
        lid, gaze_x, gaze_y, brow = _columns(expression)
        for side in (-1, 1):
            of = (self.pen, x, y, side, self.who)
            self._paint(crop, features.draw_eye(*of, lid * mood.lid, (gaze_x, gaze_y)))
            self._paint(crop, features.draw_brow(*of, mood, brow))
            rx, ry = self.who.eye_size
            reach = features.ellipse(x - side * self.who.eye_gap, y - EYE_Y, rx + 0.04, ry + 0.04)
            self.labels[crop][reach < 0] = REGIONS.index("eyes")

    def _paint(self, crop: tuple[slice, ...], strokes: features.Iterator) -> None:
        view = self.rgb[crop[0], :, crop[1], crop[2]]
        for cover, colour in strokes:
            ink = torch.tensor(colour)[:, None, None]
            view += cover[:, None] * (ink - view)
