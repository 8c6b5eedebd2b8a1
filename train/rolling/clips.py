"""What text to video learns from: scenes as latents, with the words that are true of them.

Shards are float16 and belong to the encoder that they were made with. A clip begins its stream, so
its first latent is one frame and every other four.

n blocks of F latents   C latent channels   h, w latent size
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from networks.compact_vae import CompactVAE
from networks.vae import VAE
from train.preset import SCENES
from train.scenes.clips import draw
from train.scenes.scene import Words, scene
from train.vae.video import to_video

CLIPS_PER_SHARD = 16
AnyVAE = CompactVAE | VAE


def digest(vae: AnyVAE) -> str:
    """Tells encoders apart; what only decodes does not count."""
    found = hashlib.sha256()
    for name, tensor in sorted(vae.state_dict().items()):
        if not name.startswith("decoder"):
            found.update(name.encode() + tensor.numpy().tobytes())
    return found.hexdigest()[:16]


def num_frames(num_blocks: int) -> int:
    """Video frames of a clip."""
    return SCENES.stream.video_frames(num_blocks)


@torch.inference_mode()
def write_shard(path: Path, seeds: range, split: str, num_blocks: int, vae: AnyVAE) -> None:
    """One safetensors file: "latents" [clips, C, n * F, h, w]; seeds and words in its metadata."""
    made = [scene(seed, split) for seed in seeds]
    videos = (draw(each, num_frames(num_blocks)).frames for each in made)
    latents = torch.cat([vae.encode(to_video(video)[None]) for video in videos]).half()
    about = [{"seed": seed, "words": each.words} for seed, each in zip(seeds, made, strict=True)]
    metadata = {"weights": digest(vae), "split": split, "clips": json.dumps(about)}
    partial = path.with_suffix(".partial")
    save_file({"latents": latents.contiguous()}, partial, metadata=metadata)
    partial.rename(path)


def write_shards(
    folder: Path, split: str, num_clips: int, num_blocks: int, vae: AnyVAE, seed: int = 0
) -> Iterator[Path]:
    """Make what is missing; yields every shard's path. ValueError if one is of other weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for first in range(seed, seed + num_clips, CLIPS_PER_SHARD):
        seeds = range(first, min(first + CLIPS_PER_SHARD, seed + num_clips))
        path = folder / f"{split}_{num_blocks}b_{seeds[0]:06d}_{seeds[-1]:06d}.safetensors"
        if not path.exists():
            write_shard(path, seeds, split, num_blocks, vae)
        elif (weights := _metadata(path)["weights"]) != digest(vae):
            raise ValueError(f"{path} was made with weights {weights}, these are {digest(vae)}; "
                             "take another folder")  # fmt: skip
        yield path


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as shard:
        return dict(shard.metadata())


class SceneClips:
    """The clips of a folder; shards stay on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: set[Path] = set()
        self.shards: list[Any] = []
        self.clips: list[tuple[int, int, Words]] = []
        """Shard, row and words of every clip."""
        self.num_blocks = 10**9
        """Of the shortest clip."""
        self.refresh()
        if not self.clips:
            raise ValueError(f"{folder}: no shards, `python -m train.rolling clips` makes them")

    def __len__(self) -> int:
        return len(self.clips)

    def refresh(self) -> None:
        """Take in the shards that were written since."""
        for path in sorted(set(self.folder.glob("*.safetensors")) - self.known):
            shard = safe_open(path, "pt")
            about = json.loads(shard.metadata()["clips"])
            self.clips += [(len(self.shards), row, of["words"]) for row, of in enumerate(about)]
            latents = shard.get_slice("latents").get_shape()[2]
            self.num_blocks = min(self.num_blocks, latents // SCENES.stream.frames_per_block)
            self.shards.append(shard)
            self.known.add(path)

    def words(self, clip: int) -> Words:
        return self.clips[clip][2]

    def latents(self, clip: int, blocks: np.ndarray | range) -> Tensor:
        """Float32 [C, n * F, h, w] of some blocks, in rising order."""
        shard, row, _ = self.clips[clip]
        frames = SCENES.stream.frames_per_block
        stored = self.shards[shard].get_slice("latents")
        first, last = int(blocks[0]), int(blocks[-1])
        if last - first + 1 == len(blocks):
            piece: Tensor = stored[row, :, first * frames : (last + 1) * frames]
            return piece.float()
        each = [stored[row, :, int(b) * frames : (int(b) + 1) * frames] for b in blocks]
        return torch.cat(each, 1).float()
