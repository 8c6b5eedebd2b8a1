"""What the DiT learns from: clips of the drawn world as latents, audio features and text rows.

Shards are float16 and belong to the weights that they were made with; a changed decoder of the VAE
leaves them valid.

n blocks of F latents and 4 F video frames   C latent channels   h w latent size   L + 1 hidden
states of width Ca   B batch
"""

import json
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from networks.presets import Preset
from train.encoders.features import block_features
from train.latents.takes import FrozenNetworks, draw_take, tensors
from train.preset import PRESET

CLIPS_PER_SHARD = 8
TEXT_DROPOUT = 0.1
PER_CLIP = ("text", "reference", "motion")
_networks: FrozenNetworks


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentBatch:
    """Pieces of n blocks each, float32 but for the last two."""

    latents: Tensor  # [B, C, F n, h, w], normalised; latent k shows frames 4 k .. 4 k + 3
    audio_features: Tensor  # [B, n, L + 1, Ca, 4 F], block by block
    text: Tensor  # [B, text_len, text_dim], zero rows after the prompt
    reference: Tensor  # [B, C, 1, h, w]
    motion: Tensor  # [B, C, 19, h, w], the reference picture held still
    mouth: Tensor  # [B, 4 F n, 3]: opening, width and roundness of each video frame
    regions: Tensor  # [B, F n, 2, h, w] in [0, 1]: share of a latent's pixels of mouth and eyes
    first_block: Tensor  # int64 [B]: the piece's first block as counted in its stream
    starts: Tensor  # bool [B]: whether that is the stream's very first block


@torch.inference_mode()
def write_shard(
    path: Path, seeds: range, split: str, num_blocks: int, networks: FrozenNetworks
) -> None:
    """One safetensors file of float16, clips in front; what is said of them in its metadata."""
    takes = [draw_take(seed, split, num_blocks, networks) for seed in seeds]
    features = block_features(networks.audio, [w for take in takes for w in take.windows])
    parts = features.split(num_blocks)
    clips = [tensors(t, f, networks) for t, f in zip(takes, parts, strict=True)]
    stacked = {name: torch.stack([c[name] for c in clips]) for name in clips[0]}
    stacked["empty_text"] = networks.text_rows("")[0]
    stored = {n: t.half() if t.is_floating_point() else t for n, t in stacked.items()}
    about = [
        {"seed": t.clip.seed, "mood": t.clip.mood, "kind": t.kind, "voice": t.voice,
         "caption": t.clip.caption} for t in takes
    ]  # fmt: skip
    metadata = {"weights": networks.digest, "split": split, "clips": json.dumps(about)}
    partial = path.with_suffix(".partial")
    save_file({n: t.contiguous() for n, t in stored.items()}, partial, metadata=metadata)
    partial.rename(path)


def write_shards(
    folder: Path,
    split: str,
    num_clips: int,
    num_blocks: int,
    networks: FrozenNetworks,
    seed: int = 0,
    workers: int = 1,
) -> Iterator[Path]:
    """Make what is missing, in so many processes; yields every shard's path. ValueError if one is
    of other weights."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(seed, seed + num_clips, CLIPS_PER_SHARD)
    spans = [range(s, min(s + CLIPS_PER_SHARD, seed + num_clips)) for s in starts]
    make = partial(_make_shard, folder, split, num_blocks)
    if workers == 1:
        _start(networks.folder, networks)
        yield from map(make, spans)
        return
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(workers, _start, [networks.folder]) as pool:
        yield from pool.imap_unordered(make, spans)


def _start(folder: Path, networks: FrozenNetworks | None = None) -> None:
    torch.set_num_threads(1)
    global _networks
    _networks = networks or FrozenNetworks.load(folder)


def _make_shard(folder: Path, split: str, num_blocks: int, seeds: range) -> Path:
    path = folder / f"{split}_{num_blocks}b_{seeds[0]:06d}_{seeds[-1]:06d}.safetensors"
    if not path.exists():
        write_shard(path, seeds, split, num_blocks, _networks)
        return path
    with safe_open(path, "pt") as shard:
        made_with = shard.metadata()["weights"]
    if made_with != _networks.digest:
        raise ValueError(f"{path} was made with weights {made_with}, these are "
                         f"{_networks.digest}; take another folder")  # fmt: skip
    return path


class LatentClips:
    """The clips of a folder. Shards stay on disk, in the system's memory once they were read."""

    def __init__(self, folder: Path, preset: Preset = PRESET) -> None:
        self.config, self.folder = preset.pipeline, folder
        self.known: set[Path] = set()
        self.shards: list[Any] = []
        self.clips: list[tuple[int, int]] = []
        """Shard and row of every clip."""
        self.num_blocks = 10**9
        """Of the shortest clip."""
        self.refresh()
        if not self.shards:
            raise ValueError(f"{folder}: no shards, `python -m train.latents` makes them")

    def refresh(self) -> None:
        """Take in the shards that were written since."""
        for path in sorted(set(self.folder.glob("*.safetensors")) - self.known):
            shard = safe_open(path, "pt")
            rows, blocks = shard.get_slice("audio_features").get_shape()[:2]
            self.clips += [(len(self.shards), row) for row in range(rows)]
            self.num_blocks = min(self.num_blocks, blocks)
            self.shards.append(shard)
            self.known.add(path)

    def __len__(self) -> int:
        return len(self.clips)

    def batch(
        self, rng: np.random.Generator, batch: int, blocks: int, text_dropout: float = TEXT_DROPOUT
    ) -> LatentBatch:
        """Pieces of `blocks` blocks, from different clips if there are enough, at random places.
        `text_dropout`: share of pieces that get the rows of an empty prompt."""
        if not 1 <= blocks <= self.num_blocks:
            raise ValueError(f"pieces of {blocks} blocks, clips have {self.num_blocks}")
        chosen = rng.choice(len(self), batch, replace=batch > len(self))
        pieces = []
        for clip_index in chosen:
            begin = int(rng.integers(self.num_blocks - blocks + 1))
            piece = self._piece(int(clip_index), begin, blocks)
            if rng.random() < text_dropout:
                shard = self.shards[self.clips[clip_index][0]]
                piece["text"] = shard.get_tensor("empty_text").float()
            pieces.append(piece)
        return LatentBatch(
            **{f.name: torch.stack([p[f.name] for p in pieces]) for f in fields(LatentBatch)}
        )

    def _piece(self, index: int, begin: int, blocks: int) -> dict[str, Tensor]:
        number, row = self.clips[index]
        shard, c = self.shards[number], self.config

        def rows(per_block: int) -> slice:
            return slice(begin * per_block, (begin + blocks) * per_block)

        latents, frames = rows(c.frames_per_block), rows(c.video_frames_per_block)
        piece = {name: shard.get_slice(name)[row] for name in PER_CLIP}
        piece |= {
            "latents": shard.get_slice("latents")[row, :, latents],
            "audio_features": shard.get_slice("audio_features")[row, rows(1)],
            "mouth": shard.get_slice("mouth")[row, frames],
            "regions": shard.get_slice("regions")[row, latents],
        }
        piece = {name: tensor.float() for name, tensor in piece.items()}
        first = shard.get_tensor("first_block")[row] + begin
        return piece | {"first_block": first, "starts": first == 0}
