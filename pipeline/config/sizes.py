"""What every stream's configuration derives from its sizes, and its file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Self


class LatentSizes:
    """Base of the frozen configurations: sizes of latents and tokens, `save` and `load`."""

    __slots__ = ()
    height: int
    width: int
    latent_channels: int
    spatial_stride: int
    patch_size: int
    frames_per_block: int

    @property
    def latent_height(self) -> int:
        return self.height // self.spatial_stride

    @property
    def latent_width(self) -> int:
        return self.width // self.spatial_stride

    @property
    def latent_shape(self) -> tuple[int, int, int, int, int]:
        """Shape of one block of latents, [1, C, F, h, w]."""
        h, w = self.latent_height, self.latent_width
        return (1, self.latent_channels, self.frames_per_block, h, w)

    @property
    def token_grid(self) -> tuple[int, int]:
        """Token rows and columns of one latent frame."""
        return self.latent_height // self.patch_size, self.latent_width // self.patch_size

    @property
    def tokens_per_frame(self) -> int:
        rows, columns = self.token_grid
        return rows * columns

    @property
    def tokens_per_block(self) -> int:
        return self.tokens_per_frame * self.frames_per_block

    def save(self, path: Path) -> None:
        values: Any = self  # each subclass is a dataclass
        path.write_text(json.dumps(dataclasses.asdict(values), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file; unknown or missing keys are named in the ValueError."""
        values = json.loads(path.read_text())
        fields: Any = cls
        known = {f.name for f in dataclasses.fields(fields)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"{path}: unknown keys {unknown}, known are {sorted(known)}")
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"{path}: {error}") from error
