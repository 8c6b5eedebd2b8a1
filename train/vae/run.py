"""A run of the VAE's training, and its evaluation."""

import argparse
import copy
import json
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from PIL import Image

from networks.checkpoint import load_checkpoint, save_checkpoint
from networks.compact_vae import CompactVAE
from networks.configs import CompactVAEConfig
from train.learning.device import chosen
from train.learning.learner import Figures
from train.learning.loop import Run, follow, load_state
from train.learning.together import Together, start_learners
from train.vae.clips import ClipStore
from train.vae.loss import LossWeights
from train.vae.scores import GATES, clip_scores, passes, reconstruct, summary
from train.vae.training import Training
from train.vae.visibility import measure_latents
from train.world.clips import Clip, clip

DEV_CLIPS, DEV_FRAMES = 12, 49
TEST_CLIPS, TEST_FRAMES = 32, 125


class VaeRun(Run):
    """Scored on the first faces of split "dev"."""

    panels: ClassVar = {
        "PSNR (dB)": ("psnr", "psnr_mouth", "psnr_eyes"),
        "loss": ("loss",),
        "mouth opening and width": ("opening", "width"),
        "change at boundaries / inside": ("boundary_ratio",),
        "static flicker (grey levels)": ("static_flicker", "static_flicker_inside"),
        "motion inside latents": ("motion_inside", "motion_inside_along"),
    }
    shown = (
        *("psnr", "psnr_mouth", "psnr_eyes", "opening", "width", "boundary_ratio"),
        *("static_flicker", "static_flicker_inside", "motion_inside", "motion_inside_along"),
    )

    def __init__(self, training: Training, store: ClipStore, args: argparse.Namespace) -> None:
        self.training, self.store = training, store
        self.dev = [clip(i, DEV_FRAMES, args.size, "dev") for i in range(DEV_CLIPS)]
        super().__init__(training, partial(training.learn, store), args, args.threads)

    def score(self) -> Figures:
        return evaluate(self.training.average, self.dev)

    def write(self) -> None:
        """vae.safetensors; and frames 18 to 22 of some clips, truth above reconstruction."""
        vae = copy.deepcopy(self.training.average)
        if not self.training.frozen:
            measure_latents(vae, self.store.pieces(48, 29).video)
        save_checkpoint(vae, self.out / "vae.safetensors")
        pairs = [(c.frames, reconstruct(vae, c.frames)) for c in self.dev[:6]]
        strips = [np.concatenate(list(frames[18:23]), 1) for pair in pairs for frames in pair]
        half = len(strips) // 4 * 2  # pairs stay together
        columns = [np.concatenate(strips[first : first + half]) for first in (0, half)]
        image = Image.fromarray(np.concatenate(columns, 1))
        image = image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST)
        image.save(self.out / "samples.png")


def train(args: argparse.Namespace) -> None:
    """Train in `args.threads` processes until the schedule ends."""
    size = sum(p.numel() for p in CompactVAE(CompactVAEConfig()).parameters())
    start_learners(args, size, learner)


def learner(args: argparse.Namespace, together: Together | None, rank: int) -> None:
    """Learn until the schedule ends; the first learner also keeps time, scores and saves."""
    torch.set_num_threads(1)
    device = chosen(args)
    weights = LossWeights(change=args.change_weight)
    begins = (args.encoder_of, args.start, args.rate)
    training = Training(args.seed, together, rank, *begins, weights, args.leftover, device)
    if args.resume:
        load_state(training, args.out, device)
    of = (training.seed, args.size, training.step, rank, args.threads)
    many = {"times": args.parts, "workers": max(1, args.workers), "device": device}
    with ClipStore(*of, **many) as store:
        if not args.resume:
            training.start(store)
        if rank:
            follow(training, partial(training.learn, store))
        else:
            VaeRun(training, store, args).go()


def evaluate(vae: CompactVAE, clips: list[Clip], *, find_pose: bool = False) -> Figures:
    """The gate's figures over `clips`, each of 1 + 4n frames."""
    return summary([clip_scores(c, reconstruct(vae, c.frames), find_pose=find_pose) for c in clips])


def test(args: argparse.Namespace) -> None:
    """Every gate's figure on fresh faces, whole clips; the last line is JSON."""
    vae = load_checkpoint(CompactVAE(CompactVAEConfig()), args.out / "vae.safetensors")
    clips = (clip(i, TEST_FRAMES, args.size, "test") for i in range(args.clips))
    result = evaluate(vae, list(clips), find_pose=True)
    passed = passes(result)
    for name, (sign, wanted) in GATES.items():
        verdict = "passes" if passed[name] else "FAILS"
        print(f"{name:16} {result[name]:8.3f}  {sign} {wanted:<6} {verdict}")
    for name in sorted(set(result) - set(GATES)):
        print(f"{name:24} {result[name]:8.3f}")
    print(json.dumps(result | {"passes": passed, "clips": args.clips, "size": args.size}))
