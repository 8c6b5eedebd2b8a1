"""A run of the teacher's training."""

import argparse
from functools import partial
from typing import ClassVar

import torch

from networks.checkpoint import save_checkpoint
from networks.dit import DiT
from train.latents.clips import LatentClips
from train.learning.device import chosen
from train.learning.learner import Figures
from train.learning.loop import Run, follow, load_state
from train.learning.together import Together, start_learners
from train.network import quick_layers
from train.preset import PRESET
from train.teacher.lessons import LessonsAhead
from train.teacher.pieces import Lessons
from train.teacher.scores import LOOKS, DevClips
from train.teacher.training import Training


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
    """Train in `args.threads` processes until the schedule ends."""
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
