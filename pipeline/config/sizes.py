"""What both configurations share: sizes of picture and transformer, checks, and the file."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamConfig:
    """The fields of every stream. A subclass adds its own and checks them all."""

    FILE: ClassVar[str]  # its name beside the graphs; every model reads it when it loads
    FIRST_IN_FILE: ClassVar[tuple[str, ...]] = ()
    """Fields that the file begins with; the others follow in the order of their declaration."""

    preset: str
    height: int  # video height in pixels, a multiple of `spatial_stride * patch_size`
    width: int
    latent_channels: int = 16
    spatial_stride: int = 8
    temporal_stride: int = 4  # video frames per latent frame
    patch_size: int = 2  # side of the transformer's square patch in latent pixels
    num_layers: int
    num_heads: int
    head_dim: int
    text_len: int  # rows of the text conditioning, padding included
    text_dim: int
    if TYPE_CHECKING:  # declared by each subclass, at its own place in the file
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

    @property
    def video_frames_per_block(self) -> int:
        return self.frames_per_block * self.temporal_stride

    def check_sizes(self, multiple: int, reason: str) -> None:
        """ValueError if the picture is no `multiple` of pixels, or RoPE cannot pair a head's
        channels."""
        for name in ("height", "width"):
            if (size := getattr(self, name)) <= 0 or size % multiple:
                wanted = f"a positive multiple of {multiple} ({reason})"
                raise ValueError(f"{name} is {size}, wanted {wanted}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim is {self.head_dim}, wanted an even number")

    def check_counts(self, *names: str) -> None:
        """ValueError if one of these fields is below 1."""
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted 1 or more")

    def save(self, path: Path) -> None:
        """Write the fields as a JSON object."""
        values = dataclasses.asdict(self)
        first = {name: values[name] for name in self.FIRST_IN_FILE}
        path.write_text(json.dumps({**first, **values}, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file; unknown or missing keys are named in the ValueError."""
        values = json.loads(path.read_text())
        known = {f.name for f in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"{path}: unknown keys {unknown}, known are {sorted(known)}")
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"{path}: {error}") from error
