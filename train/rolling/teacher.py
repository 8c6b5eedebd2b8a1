"""The teacher of text to video: its learner, and how it does on scenes it does not learn from."""

import argparse
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from networks.causal_wan import CausalWan
from networks.checkpoint import load_checkpoint, save_checkpoint
from networks.compact_vae import build_vae
from train.learning.device import chosen
from train.learning.learner import Figures
from train.learning.loop import Run, load_state
from train.network import quick_layers
from train.network.flow import add_noise
from train.preset import SCENES
from train.rolling.clips import SceneClips
from train.rolling.lessons import Lesson, Lessons, Texts
from train.rolling.network import fresh_wan, quicken, sample, velocity
from train.scenes.preview import row
from train.scenes.words import caption
from train.teacher.pieces import LessonsAhead
from train.teacher.training import FlowLearner
from train.vae.video import to_frames

LEVELS = (1.0, 0.9, 0.75, 0.5)  # of noise, at which errors are measured
ERROR_CLIPS, BLOCKS = 16, 7
SHOWN, STEPS, GUIDANCE = 4, 20, 3.0  # sampled clips
CHANGE_WEIGHT = 1.0  # of squared errors in the change from one latent to the next


def lesson_loss(wan: CausalWan, lesson: Lesson) -> Tensor:
    """Weighted squared error of the velocity, and of its change over time where the noise is the
    same: errors that come and go are seen as flicker."""
    error = velocity(wan, lesson.noisy, lesson.timesteps, lesson.text) - lesson.target
    weight = lesson.weight
    learned = (weight > 0).sum().clamp(min=1)
    squared = (error.square().mean((1, 3, 4), keepdim=True) * weight).sum() / learned
    same = (lesson.sigma.diff(dim=1) == 0)[:, None, :, None, None]
    both = weight[:, :, 1:] * same
    change = (error.diff(dim=2).square().mean((1, 3, 4), keepdim=True) * both).sum() / learned
    return squared + CHANGE_WEIGHT * change


class Teacher(FlowLearner):
    """Network, its average, optimisers and place in the lessons."""

    EMA = 0.998
    inner = ("blocks",)

    def __init__(
        self,
        seed: int,
        start: Path | None = None,
        rate: float = 1.0,
        device: torch.device | str = "cpu",
    ) -> None:
        wan = quicken(fresh_wan(seed))
        if start is not None:
            load_checkpoint(wan, start).train().requires_grad_(True)
        self.begin(wan.to(device), None, 0, seed, rate)

    def learn(self, lessons: LessonsAhead, progress: float) -> Tensor:
        return self.descend(lesson_loss(self.network, lessons.lesson(self.step)), progress)


class DevScenes:
    """The first clips of a folder of split "dev", which nothing learns from. They choose; what is
    judged in the end is split "test"."""

    def __init__(self, clips: Path, weights: Path, device: torch.device | str = "cpu") -> None:
        stored, texts = SceneClips(clips / "dev"), Texts(weights / "text_encoder.safetensors")
        count = min(ERROR_CLIPS, len(stored))
        self.captions = [caption(stored.words(i)) for i in range(count)]
        blocks = range(min(BLOCKS, stored.num_blocks))
        latents = torch.stack([stored.latents(i, blocks) for i in range(count)])
        self.latents, self.text, self.empty = (
            x.to(device) for x in (latents, texts.rows(self.captions), texts.rows([""]))
        )
        self.noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
        self.vae = load_checkpoint(build_vae(SCENES.vae), weights / "vae.safetensors")

    @torch.no_grad()
    def errors(self, wan: CausalWan) -> Figures:
        """Squared error of the velocity at each level, "error_100" …; and at one of them with the
        prompts of others, "error_75_shuffled": what prompts are good for."""
        found, noise = {}, self.noise.to(self.latents)
        for sigma in LEVELS:
            found[f"error_{100 * sigma:.0f}"] = self._error(wan, sigma, noise, self.text)
        others = self.text.roll(1, 0)
        return found | {"error_75_shuffled": self._error(wan, 0.75, noise, others)}

    def _error(self, wan: CausalWan, sigma: float, noise: Tensor, text: Tensor) -> float:
        level = torch.full(self.latents.shape[:3:2], sigma, device=noise.device)
        noisy = add_noise(self.latents, noise, level)
        of = zip(*(x.split(4) for x in (noisy, level, text)), strict=True)
        made = torch.cat([velocity(wan, x, 1000 * each, rows) for x, each, rows in of])
        return float((made - (noise - self.latents)).square().mean())

    @torch.no_grad()
    def samples(self, wan: CausalWan, path: Path, guidance: float = GUIDANCE) -> Figures:
        """A sheet of a few clips; how much they change, over what the truth changes."""
        noise, text = self.noise[:SHOWN].to(self.latents), (self.text[:SHOWN], self.empty)
        made = sample(wan, noise, text, steps=STEPS, guidance=guidance)
        change = made.diff(dim=2).square().mean() / self.latents.diff(dim=2).square().mean()
        rows = []
        for latent, title in zip(made, self.captions, strict=False):
            video, _ = self.vae.decode(latent[None].cpu())
            frames = to_frames(video)[0]
            rows.append(row([frames[i] for i in np.linspace(0, len(frames) - 1, 10, dtype=int)],
                            title))  # fmt: skip
        Image.fromarray(np.concatenate(rows)).save(path)
        return {"motion": float(change), "spread": float(made.std() / self.latents.std())}


class TeacherRun(Run):
    """Its minutes are those of the processor: it may share it with others, and be stopped."""

    panels: ClassVar = {
        "loss": ("loss",),
        "error of the velocity": ("error_100", "error_90", "error_75"),
        "the same, with others' prompts": ("error_75", "error_75_shuffled"),
        "at half noise": ("error_50",),
        "motion of samples over the truth's": ("motion", "spread"),
    }
    shown = ("error_100", "error_90", "error_75", "error_75_shuffled", "error_50", "motion")

    def __init__(self, teacher: Teacher, lessons: LessonsAhead, args: argparse.Namespace) -> None:
        self.teacher = teacher
        self.dev = DevScenes(args.clips, args.weights, args.device)
        super().__init__(teacher, partial(teacher.learn, lessons), args)

    def spent(self) -> float:
        return self.teacher.cpu_seconds / 60

    def score(self) -> Figures:
        wan = self.teacher.average
        return self.dev.errors(wan) | self.dev.samples(wan, self.out / "samples.png")

    def write(self) -> None:
        save_checkpoint(self.teacher.average, self.out / "wan.safetensors")


def train(args: argparse.Namespace) -> None:
    """Learn until the schedule ends."""
    torch.set_num_threads(args.threads)
    device = chosen(args)
    quick_layers.set_products(args.products)
    args.minutes = 60 * args.hours
    teacher = Teacher(args.seed, args.start, args.rate, device)
    if args.resume and (args.out / "state.pt").is_file():
        load_state(teacher, args.out, device)
    clips, texts = (
        SceneClips(args.clips / "train"),
        Texts(args.weights / "text_encoder.safetensors"),
    )
    parts = [Lessons(clips, texts, teacher.seed, part) for part in range(args.parts)]
    lessons = LessonsAhead(parts, teacher.step, args.workers, device)
    TeacherRun(teacher, lessons, args).go("teacher")
