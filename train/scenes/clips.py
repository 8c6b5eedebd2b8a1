"""Frames of scenes.

T video frames   S the picture's side in pixels
"""

from dataclasses import fields

import numpy as np
from torch import Tensor

from train.preset import SCENES
from train.scenes.behind import Behind
from train.scenes.motion import Moves, moves
from train.scenes.scene import Scene
from train.world.motion import part
from train.world.render import Rendering, render

SIZE = SCENES.stream.height
LIGHT = {"day": (1.0, 1.0, 1.0), "warm": (1.03, 0.88, 0.70), "cold": (0.72, 0.85, 1.03)}
"""What each channel is multiplied with."""


VIEW = (1.18, 0.06)
"""More than a portrait: clothes and what is behind take their part."""


def draw(made: Scene, num_frames: int, size: int = SIZE, first: int = 0) -> Rendering:
    """Frames `first` to `num_frames` of a scene."""
    moved, back = rows_of(moves(made, num_frames), slice(first, None)), Behind(made, size)

    def behind(rgb: Tensor, rows: slice) -> None:
        back.paint(rgb, rows_of(moved, rows), first + rows.start)

    drawn = render(made.who, moved.pose, moved.expression, moved.mouth, made.words["mood"], size,
                   behind, VIEW)  # fmt: skip
    tint = np.asarray(LIGHT[made.words["light"]], np.float32)
    frames = np.clip(drawn.frames * tint, 0, 255).round().astype(np.uint8)
    return Rendering(frames, drawn.regions)


def rows_of(moved: Moves, rows: slice) -> Moves:
    """The same of some frames."""
    curves = {f.name: getattr(moved, f.name) for f in fields(moved)}
    return Moves(
        **{n: c[rows] if isinstance(c, np.ndarray) else part(c, rows) for n, c in curves.items()}
    )
