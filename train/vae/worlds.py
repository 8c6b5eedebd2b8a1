"""What a VAE learns to draw: talking heads, or scenes of text to video."""

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from train.scenes.clips import draw
from train.scenes.scene import scene
from train.world.clips import Clip, clip
from train.world.render import Rendering


class Drawn(Protocol):
    """Pictures, and what each pixel of them shows."""

    @property
    def frames(self) -> np.ndarray:
        """uint8 [T, S, S, 3]"""

    @property
    def regions(self) -> np.ndarray:
        """uint8 [T, S, S], indices into `train.world.render.REGIONS`"""


def faces(seed: int, num_frames: int, size: int, split: str) -> Clip:
    return clip(seed, num_frames, size, split)


def scenes(seed: int, num_frames: int, size: int, split: str) -> Rendering:
    return draw(scene(seed, split), num_frames, size)


WORLDS: Mapping[str, Callable[[int, int, int, str], Drawn]] = {"faces": faces, "scenes": scenes}
"""Name -> clip of a seed, so many frames, the picture's side and a split."""
