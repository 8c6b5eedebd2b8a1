"""A reader of scenes: which words are true of a video, from its pixels alone.

It judges and is learned from nothing that is judged: it learns from scenes of split "train", half
of them as drawn and half through the VAE, so that neither is strange to it. What it reads of true
scenes through the VAE is the cap of what any model can reach.

B videos   T frames that are looked at   D width
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.checkpoint import load_checkpoint, save_checkpoint
from networks.compact_vae import CompactVAE, build_vae
from networks.vae import VAE
from train.learning.learner import AveragedLearner, Figures
from train.learning.loop import Run, load_state
from train.preset import SCENES
from train.rolling.clips import SceneClips
from train.scenes.clips import draw
from train.scenes.scene import CHOICES, Scene, Words, scene
from train.vae.video import to_frames, to_video

FRAMES, EVERY = 81, 3  # video frames of a piece, 5 s; every third is looked at
WIDTHS = (24, 48, 96, 128)
BATCH, STORE = 8, 96
DEV_VIDEOS = 48


class Reader(nn.Module):
    """Frames one by one through convolutions, then what happens in time."""

    def __init__(self) -> None:
        super().__init__()
        ins, layers = 3, []
        for width in WIDTHS:
            layers += [nn.Conv2d(ins, width, 5 if ins == 3 else 3, 2, 2 if ins == 3 else 1),
                       nn.GroupNorm(8, width), nn.SiLU()]  # fmt: skip
            ins = width
        self.frames = nn.Sequential(*layers)
        self.join = nn.Linear(ins * 36, 128)
        self.time = nn.Sequential(nn.Conv1d(128, 128, 3, padding=1), nn.SiLU(),
                                  nn.Conv1d(128, 128, 3, padding=1), nn.SiLU())  # fmt: skip
        self.heads = nn.ModuleDict(
            {name: nn.Linear(4 * 128, len(values)) for name, values in CHOICES.items()}
        )

    def forward(self, video: Tensor) -> dict[str, Tensor]:
        """video [B, T, 3, 96, 96] in [-1, 1] -> logits [B, values] of every attribute."""
        batch, length = video.shape[:2]
        each = self.join(self.frames(video.flatten(0, 1)).flatten(1)).view(batch, length, -1)
        moving = each + self.time(each.transpose(1, 2)).transpose(1, 2)
        both = torch.cat([each, moving], -1)
        pooled = torch.cat([both.mean(1), both.amax(1)], -1)
        return {name: head(pooled) for name, head in self.heads.items()}


def looked_at(frames: np.ndarray) -> Tensor:
    """uint8 [T', S, S, 3] to the reader's float32 [T, 3, S, S]."""
    return to_video(frames[:FRAMES:EVERY]).transpose(0, 1)


def loss(found: dict[str, Tensor], words: Sequence[Words]) -> Tensor:
    """Cross-entropy over what is true of each; words that a scene lacks do not count."""
    total = []
    for name, logits in found.items():
        truth = [CHOICES[name].index(each[name]) if name in each else -100 for each in words]
        if max(truth) >= 0:
            total.append(F.cross_entropy(logits, torch.tensor(truth)))
    return torch.stack(total).sum()


def right(found: dict[str, Tensor], words: Sequence[Words]) -> dict[str, list[bool]]:
    """For each attribute whether it is read as asked, of those that were asked for it."""
    result: dict[str, list[bool]] = {}
    for name, logits in found.items():
        read = logits.argmax(1).tolist()
        asked = [
            (value, each[name]) for value, each in zip(read, words, strict=True) if name in each
        ]
        result[name] = [CHOICES[name][value] == wanted for value, wanted in asked]
    return result


def seen(found: dict[str, Tensor], words: Sequence[Words]) -> Figures:
    """Share of all asked attributes that are read, "words_seen", and that of each."""
    each = right(found, words)
    every = [value for values in each.values() for value in values]
    shares = {f"seen_{name}": float(np.mean(values)) for name, values in each.items() if values}
    return {"words_seen": float(np.mean(every))} | shares


class Reading(AveragedLearner):
    """Reader, its average, its optimisers, and a store of drawn scenes that is renewed."""

    EMA = 0.995

    def __init__(self, seed: int, clips: SceneClips, vae: CompactVAE | VAE) -> None:
        torch.manual_seed(seed)
        super().__init__(seed, Reader())
        self.clips, self.vae = clips, vae
        self.store: list[tuple[Tensor, Words]] = []
        named = dict(self.network.named_parameters())
        matrices = [p for name, p in named.items() if p.dim() > 1 and "heads" not in name]
        rest = [p for name, p in named.items() if p.dim() == 1 or "heads" in name]
        self.optimise((matrices, 1e-2), (rest, 2e-3))

    def learn(self, progress: float) -> Tensor:
        rng = np.random.default_rng([self.seed, self.step, 0x4EAD])
        self._renew(rng)
        chosen = rng.integers(len(self.store), size=BATCH)
        video = torch.stack([self.store[i][0] for i in chosen]).float()
        video = video + 0.04 * torch.randn(video.shape) * rng.random()
        found = self.network(video)
        return self.descend(loss(found, [self.store[i][1] for i in chosen]), progress)

    @torch.no_grad()
    def _renew(self, rng: np.random.Generator) -> None:
        """One more video a step, as drawn or through the VAE, in place of an old one."""
        number = int(rng.integers(len(self.clips)))
        latents = self.clips.latents(number, range(7))
        if rng.random() < 0.5:
            frames = to_frames(self.vae.decode(latents[None])[0])[0]
            item = looked_at(frames), self.clips.words(number)
        else:
            drawn = scene(int(rng.integers(1_000_000)), "train")
            item = looked_at(draw(drawn, FRAMES).frames), drawn.words
        item = item[0].half(), item[1]
        if len(self.store) < STORE:
            self.store.append(item)
        else:
            self.store[int(rng.integers(STORE))] = item


class ReaderRun(Run):
    """Scored on split "dev", drawn and through the VAE: the cap. Minutes of the processor."""

    panels: ClassVar = {"loss": ("loss",), "words": ("words_seen", "words_seen_vae")}
    shown = ("words_seen", "words_seen_vae")

    def __init__(self, reading: Reading, args: argparse.Namespace) -> None:
        self.reading = reading
        scenes: list[Scene] = [scene(seed, "dev") for seed in range(DEV_VIDEOS)]
        self.words = [each.words for each in scenes]
        self.drawn = [draw(each, FRAMES).frames for each in scenes]
        super().__init__(reading, reading.learn, args)

    def spent(self) -> float:
        return self.reading.cpu_seconds / 60

    @torch.no_grad()
    def score(self) -> Figures:
        vae = self.reading.vae
        through = (vae.decode(vae.encode(to_video(f)[None]))[0] for f in self.drawn)
        whole = read(self.reading.average, self.drawn)
        cap = read(self.reading.average, [to_frames(video)[0] for video in through])
        found = seen(cap, self.words)
        return seen(whole, self.words) | {f"{name}_vae": value for name, value in found.items()}

    def write(self) -> None:
        save_checkpoint(self.reading.average, self.out / "reader.safetensors")


@torch.no_grad()
def read(reader: nn.Module, videos: Sequence[np.ndarray]) -> dict[str, Tensor]:
    """Logits of many videos uint8 [T, S, S, 3], a few at a time."""
    parts = [reader(torch.stack([looked_at(v) for v in videos[i : i + BATCH]]))
             for i in range(0, len(videos), BATCH)]  # fmt: skip
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def train(args: argparse.Namespace) -> None:
    """Learn until the hours are over."""
    torch.set_num_threads(args.threads)
    args.minutes = 60 * args.hours
    vae = load_checkpoint(build_vae(SCENES.vae), Path(args.weights) / "vae.safetensors")
    reading = Reading(args.seed, SceneClips(args.clips / "train"), vae)
    if args.resume and (args.out / "state.pt").is_file():
        load_state(reading, args.out)
    ReaderRun(reading, args).go("reader")
