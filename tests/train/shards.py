"""Clips on disk: a safetensors file holds a few, with what is said about them in its metadata."""

import json
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from train.world.clips import Clip, clip

CLIPS_PER_SHARD = 16


def _tensors(clips: list[Clip]) -> dict[str, np.ndarray]:
    """Shard tensors: those of a clip with the clips in front; motion as [n, T, values]."""

    def curves(name: str) -> np.ndarray:
        return np.stack([np.stack(astuple(getattr(c, name)), 1) for c in clips]).astype(np.float32)

    tensors = {name: np.stack([getattr(c, name) for c in clips]) for name in
               ("frames", "regions", "reference", "audio")}  # fmt: skip
    return tensors | {name: curves(name) for name in ("mouth", "pose", "expression")}


def write_shard(path: Path, clips: list[Clip]) -> None:
    """One safetensors file; captions and the rest in its metadata, under "clips"."""
    names = ("seed", "split", "mood", "kind", "voice", "caption")
    about = [{name: getattr(c, name) for name in names} for c in clips]
    partial = path.with_suffix(".partial")
    save_file(_tensors(clips), partial, metadata={"clips": json.dumps(about)})
    partial.rename(path)


def read_shard(path: Path) -> tuple[dict[str, np.ndarray], list[dict[str, object]]]:
    """Tensors and, for each clip, what is said about it."""
    with safe_open(path, "numpy") as shard:
        tensors = {name: shard.get_tensor(name) for name in shard.keys()}  # noqa: SIM118
        return tensors, json.loads(shard.metadata()["clips"])


def write_shards(
    folder: Path, split: str, num_clips: int, num_frames: int, size: int, seed: int
) -> Iterator[Path]:
    """Write what is missing; yields every shard's path, written now or before.

    A file that exists is not drawn again, also not after the drawing code has changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(seed, seed + num_clips, CLIPS_PER_SHARD):
        seeds = range(start, min(start + CLIPS_PER_SHARD, seed + num_clips))
        name = f"{split}_{size}px_{num_frames}f_{seeds[0]:06d}_{seeds[-1]:06d}.safetensors"
        if not (folder / name).exists():
            write_shard(folder / name, [clip(s, num_frames, size, split) for s in seeds])
        yield folder / name
