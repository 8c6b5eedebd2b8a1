"""The teacher's training: a fresh network, its optimisers, and its run."""

import argparse
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from networks.checkpoint import build_seeded, load_checkpoint, save_checkpoint
from networks.dit import DiT
from train.latents.clips import LatentClips
from train.learning.device import chosen
from train.learning.learner import AveragedLearner, Figures
from train.learning.loop import Run, follow, load_state
from train.learning.together import Together, start_learners
from train.network import quick_layers
from train.network.parallel import velocities
from train.preset import PRESET
from train.teacher.pieces import Lesson, Lessons, LessonsAhead, weighted_error
from train.teacher.scores import LOOKS, DevClips

MUON_RATE, ADAM_RATE = 2e-2, 2e-3
START_GATE = 0.5  # added to the gates of a fresh network's branches


def fresh_dit(seed: int) -> DiT:
    """A network that starts with velocity = latent, its branches open. At high noise that is nearly
    right, and it need not learn to let the noise through."""
    dit = build_seeded(lambda: DiT(PRESET.dit), seed).requires_grad_(True)
    dim = PRESET.dit.dim
    with torch.no_grad():
        enter = dit.patch_embedding.weight.view(dim, -1)
        nn.init.orthogonal_(enter, gain=(dim / enter.shape[1]) ** 0.5, generator=_seeded(seed))
        # Inputs are (channel, row, column) of a patch, outputs (row, column, channel).
        back = dit.patch_embedding.weight.view(dim, PRESET.dit.channels, -1).transpose(1, 2)
        dit.head.head.weight.copy_(back.reshape(dim, -1).T / (dim / enter.shape[1]))
        for block in dit.blocks:
            block.modulation[:, [2, 5]] += START_GATE
        for injector in dit.audio_injector.injector:
            nn.init.normal_(injector.o.weight, std=0.5 * dim**-0.5, generator=_seeded(seed))
    return dit


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class FlowLearner(AveragedLearner):
    """Network, its average, optimisers and place in the lessons."""

    EMA = 0.995
    inner: ClassVar[tuple[str, ...]]
    """Parts of the network whose matrices Muon takes."""

    def begin(
        self, network: nn.Module, together: Together | None, rank: int, seed: int, rate: float
    ) -> None:
        """With `network`, which is where it learns already."""
        super().__init__(seed, network, together, rank, rate)
        parts = [getattr(network, name) for name in self.inner]
        matrices = [p for m in parts for name, p in m.named_parameters()
                    if p.dim() >= 2 and name.endswith("weight")]  # fmt: skip
        chosen = {id(p) for p in matrices}
        rest = [p for p in self.learned if id(p) not in chosen]
        self.optimise((matrices, MUON_RATE), (rest, ADAM_RATE))


class Training(FlowLearner):
    """The avatar's."""

    inner = ("blocks", "audio_injector", "casual_audio_encoder")

    def __init__(
        self,
        seed: int,
        together: Together | None = None,
        rank: int = 0,
        start: Path | None = None,
        rate: float = 1.0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.dit = fresh_dit(seed)
        if start is not None:
            load_checkpoint(self.dit, start).train().requires_grad_(True)
        self.dit.to(device)
        # No pose is ever given, so this weight is never used.
        self.dit.cond_encoder.weight.requires_grad_(False)
        self.begin(self.dit, together, rank, seed, rate)

    def learn(self, lessons: Lessons | LessonsAhead, progress: float) -> torch.Tensor:
        loss = lesson_loss(self.dit, lessons.lesson(self.step))
        return self.descend(loss, progress)


def lesson_loss(dit: DiT, lesson: Lesson) -> torch.Tensor:
    of = (dit, lesson.noisy, 1000 * lesson.sigma, lesson.conditions)
    return weighted_error(velocities(*of, starts=lesson.starts, sink=lesson.sink), lesson)


class TeacherRun(Run):
    """Scored on the first clips of split "dev"; in the end over a minute, too."""

    panels: ClassVar = {
        "loss": ("loss",),
        "error of the velocity": ("error_0", "error_1", "error_2"),
        "where there is mouth": ("mouth_0", "mouth_1", "mouth_2"),
        "where there are eyes": ("eyes_0", "eyes_1", "eyes_2"),
        **LOOKS,
    }
    shown = ("error_0", "error_1", "error_2", "mouth_2", "eyes_2", "opening", "width",
             "motion", "border", "looks", "drift_soon", "drift")  # fmt: skip

    def __init__(self, training: Training, lessons: LessonsAhead, args: argparse.Namespace) -> None:
        self.training, self.dev = training, DevClips.of(args.clips, args.weights, args.device)
        super().__init__(training, partial(training.learn, lessons), args, args.threads)

    def score(self) -> Figures:
        found = self.dev.scores(self.training.average, self.out / "samples.png")
        if self.progress() >= 1:  # the last time: a minute's stream takes minutes
            self.save()
            found |= self.dev.drift(self.training.average)
        return found

    def write(self) -> None:
        save_checkpoint(self.training.average, self.out / "dit.safetensors")


def train(args: argparse.Namespace) -> None:
    start_learners(args, sum(p.numel() for p in DiT(PRESET.dit).parameters()), learner)


def learner(args: argparse.Namespace, together: Together | None, rank: int) -> None:
    """Learn until the schedule ends; the first learner also keeps time, scores and saves."""
    torch.set_num_threads(1)
    device = chosen(args)
    quick_layers.set_products(args.products)
    training = Training(args.seed, together, rank, args.start, args.rate, device)
    if args.resume:
        load_state(training, args.out, device)
    clips = LatentClips(args.clips / "train")
    parts = [Lessons(clips, training.seed, rank * args.parts + part, args.sink_dropout)
             for part in range(args.parts)]  # fmt: skip
    lessons = LessonsAhead(parts, training.step, args.workers, device)
    if rank:
        follow(training, partial(training.learn, lessons))
    else:
        TeacherRun(training, lessons, args).go()
