"""What is painted between the wall and the person: the sky and its weather, and what passes.

T frames   S the picture's side   x y [S, S] picture coordinates, x to the right and y down
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from train.scenes.motion import FPS, Moves
from train.scenes.scene import Scene
from train.world.features import Pen, ellipse
from train.world.identity import Colour
from train.world.render import axes
from train.world.shapes import EDGE_PIXELS

SKIES: dict[str, tuple[Colour, Colour, Colour]] = {  # top, horizon, hills
    "sunny": ((0.35, 0.65, 0.95), (0.72, 0.88, 0.98), (0.45, 0.72, 0.38)),
    "cloudy": ((0.55, 0.62, 0.70), (0.78, 0.81, 0.84), (0.42, 0.56, 0.42)),
    "rainy": ((0.33, 0.38, 0.46), (0.50, 0.55, 0.60), (0.26, 0.36, 0.33)),
    "snowy": ((0.62, 0.68, 0.76), (0.80, 0.84, 0.88), (0.94, 0.95, 0.98)),
    "night": ((0.06, 0.07, 0.20), (0.14, 0.16, 0.34), (0.07, 0.11, 0.16)),
}
WHITE: Colour = (0.97, 0.97, 0.99)
INK: Colour = (0.20, 0.18, 0.24)
FALLING = {"rainy": (22, 0.55, 0.11, 0.026), "snowy": (22, 0.20, 0.0, 0.055)}
"""How many drops or flakes, their speed per second, half their length, their half width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """What passes: where a pixel is from it, x and y [T, S, S]; where it is in its own motion,
    [T, 1, 1] in [0, 1)."""

    x: Tensor
    y: Tensor
    beat: Tensor
    colour: Colour


class Behind:
    """Paints all that is behind the person of a scene."""

    def __init__(self, made: Scene, size: int) -> None:
        self.scene, self.size = made, size
        self.x, self.y = axes(size)
        self.pen = Pen(torch.tensor(EDGE_PIXELS * 2 / size))
        self.sky = self._sky() if made.outdoors else None

    def paint(self, rgb: Tensor, moved: Moves, first: int) -> None:
        """Into rgb [T, 3, S, S]; `moved` are the curves of these frames, of which the first is the
        scene's frame `first`."""
        time = (first + torch.arange(len(rgb))) / FPS
        if self.sky is not None:
            rgb[:] = self.sky
            self._weather(rgb, time)
        if (draw := PASSING.get(self.scene.words["passing"])) is not None:
            places = torch.from_numpy(moved.passing)[:, :, None, None]
            beat = torch.from_numpy(moved.beat)[:, None, None]
            coloured = "passing_name" in self.scene.words
            colour = self.scene.passing_colour if coloured else WHITE
            x, y = self.x - places[:, 0], self.y - places[:, 1]
            draw(self, rgb, Thing(x=x, y=y, beat=beat, colour=colour))

    def fill(self, rgb: Tensor, distance: Tensor, colour: Colour, opacity: float = 1.0) -> None:
        cover = opacity * self.pen.fill(distance)
        rgb += cover[:, None] * (torch.tensor(colour)[:, None, None] - rgb)

    def _sky(self) -> Tensor:
        """[3, S, S]"""
        top, horizon, hills = SKIES[self.scene.words["place"]]
        share = ((self.y + 1) / 1.5).clamp(0, 1)
        rgb = torch.stack([a + (b - a) * share for a, b in zip(top, horizon, strict=True)])[None]
        rng = np.random.default_rng([self.scene.key, 0x5C1])
        a, b, c = rng.uniform(0, 6.28, 3)
        line = 0.42 + 0.07 * torch.sin(2.1 * self.x + a) + 0.04 * torch.sin(4.3 * self.x + b)
        self.fill(rgb, (line - self.y)[None], hills)
        place = self.scene.words["place"]
        if place in ("sunny", "night"):
            at = 0.62 * np.sign(np.sin(c)), -0.66
            disc = torch.hypot(self.x - at[0], self.y - at[1]) - 0.17
            sun: Colour = (1.0, 0.86, 0.32) if place == "sunny" else (0.93, 0.93, 0.80)
            self.fill(rgb, disc[None], sun)
        if place == "night":
            for sx, sy in rng.uniform((-1, -1), (1, 0.2), (22, 2)):
                self.fill(rgb, (torch.hypot(self.x - sx, self.y - sy) - 0.016)[None], WHITE, 0.9)
        return rgb[0]

    def _weather(self, rgb: Tensor, time: Tensor) -> None:
        place = self.scene.words["place"]
        rng = np.random.default_rng([self.scene.key, 0x3EA])
        if place in ("sunny", "cloudy"):
            many, colour = (3, WHITE) if place == "sunny" else (6, (0.90, 0.91, 0.93))
            for _ in range(many):
                start, y, speed = rng.uniform(-1.5, 1.5), rng.uniform(-0.9, 0.0), 0.12
                x = (start + speed * time + 1.5) % 3.0 - 1.5
                self._cloud(rgb, self.x - x[:, None, None], self.y - y, colour)
        elif place in FALLING:
            count, speed, length, width = FALLING[place]
            for start, phase, sway in rng.uniform((-1.1, 0, 0), (1.1, 2.4, 6.28), (count, 3)):
                drop = (phase + speed * time) % 2.4 - 1.2
                drift = 0.05 * torch.sin(1.3 * time + sway) if place == "snowy" else -0.15 * drop
                x = self.x - start - drift[:, None, None]
                y = self.y - drop[:, None, None]
                along = (y - y.clamp(-length, length)) if length else y
                colour = WHITE if place == "snowy" else (0.72, 0.80, 0.90)
                self.fill(rgb, torch.hypot(x, along) - width, colour, 0.85)

    def _cloud(self, rgb: Tensor, x: Tensor, y: Tensor, colour: Colour) -> None:
        puffs = ((-0.18, 0.02, 0.20, 0.09), (0.0, -0.04, 0.20, 0.14), (0.19, 0.02, 0.19, 0.10))
        shapes = [ellipse(x - dx, y - dy, rx, ry) for dx, dy, rx, ry in puffs]
        self.fill(rgb, torch.stack(shapes).amin(0), colour, 0.9)


def _balloon(b: Behind, rgb: Tensor, it: Thing) -> None:
    string = torch.hypot(it.x, it.y - it.y.clamp(0.2, 0.5)) - 0.012
    b.fill(rgb, string, INK, 0.7)
    b.fill(rgb, ellipse(it.x, it.y, 0.19, 0.23), it.colour)
    b.fill(rgb, ellipse(it.x + 0.07, it.y + 0.09, 0.045, 0.06), WHITE, 0.7)


def _ball(b: Behind, rgb: Tensor, it: Thing) -> None:
    whole = torch.hypot(it.x, it.y) - 0.18
    b.fill(rgb, whole, it.colour)
    b.fill(rgb, torch.maximum(whole, it.y.abs() - 0.045), WHITE)


def _bird(b: Behind, rgb: Tensor, it: Thing) -> None:
    out = it.x.abs() / 0.24
    lift = 0.14 * torch.sin(2 * np.pi * it.beat)
    wing = it.y + lift * out + 0.05 * torch.sin(out * np.pi)
    width = (0.055 - 0.023 * out.clamp(max=1)).clamp(min=0.02)
    b.fill(rgb, torch.hypot((it.x.abs() - 0.24).clamp(min=0), wing) - width, INK)
    b.fill(rgb, ellipse(it.x, it.y, 0.11, 0.06), INK)


def _paper_plane(b: Behind, rgb: Tensor, it: Thing) -> None:
    half = 0.13 * (0.5 - it.x / 0.44)
    body = torch.maximum(it.y.abs() - half, it.x.abs() - 0.22)
    b.fill(rgb, body - 0.025, INK, 0.55)
    b.fill(rgb, body, WHITE)
    b.fill(rgb, torch.maximum(it.y.abs() - 0.018, it.x.abs() - 0.2), INK, 0.5)


PASSING: dict[str, Callable[[Behind, Tensor, Thing], None]] = {
    "balloon": _balloon, "ball": _ball, "bird": _bird, "paper plane": _paper_plane,
}  # fmt: skip
