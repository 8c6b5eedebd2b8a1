"""The VAE's training: what learns, how its latents are normalised, its run and its test."""

import argparse
import copy
import json
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from networks.checkpoint import load_checkpoint, save_checkpoint
from networks.compact_vae import CompactVAE
from networks.configs import CompactVAEConfig
from train.learning.device import chosen
from train.learning.learner import AveragedLearner, Figures
from train.learning.loop import Run, follow, load_state
from train.learning.together import Together, start_learners
from train.vae.clips import ClipStore
from train.vae.loss import LossWeights, start_linear, vae_loss
from train.vae.scores import GATES, clip_scores, passes, reconstruct, summary
from train.vae.worlds import WORLDS, Drawn

MUON_RATE, ADAM_RATE, SHORTCUT_RATE = 4e-2, 3e-3, 1e-3
DEV_CLIPS, DEV_FRAMES = 12, 49
TEST_CLIPS, TEST_FRAMES = 32, 125
VISIBLE_CLIPS, NUDGE = 6, 0.3  # clips that are nudged to see what shows, by so many deviations


class Training(AveragedLearner):
    """Network, its average, optimisers and place in the data."""

    def __init__(
        self,
        seed: int,
        together: Together | None = None,
        rank: int = 0,
        encoder_of: Path | None = None,
        start: Path | None = None,
        rate: float = 1.0,
        weights: LossWeights | None = None,
        leftover: float = 0.0,
        device: torch.device | str = "cpu",
        products: str = "float32",
    ) -> None:
        """`encoder_of`: a VAE to go on from with a frozen encoder, so that latents made with it
        stay valid while the decoder improves; `start`: one as a whole. `leftover`: highest standard
        deviation of noise on normalised latents."""
        torch.manual_seed(seed)
        self.vae, self.weights = CompactVAE(CompactVAEConfig()), weights or LossWeights()
        self.leftover, self.rounds = leftover, products == "bfloat16"
        self.frozen, self.goes_on = encoder_of is not None, start is not None
        if (trained := encoder_of or start) is not None:
            load_checkpoint(self.vae, trained)
            (self.vae.decoder if self.frozen else self.vae).requires_grad_(True)
        self.vae.to(device)
        super().__init__(seed, self.vae, together, rank, rate)
        named = [(name, p) for name, p in self.vae.named_parameters() if p.requires_grad]
        shortcuts = [p for name, p in named if "shortcut.weight" in name]
        matrices = [p for name, p in named if "shortcut" not in name and p.dim() > 4]
        rest = [p for name, p in named if p.dim() <= 4]
        self.optimise((matrices, MUON_RATE), (rest, ADAM_RATE), (shortcuts, SHORTCUT_RATE))

    def start(self, store: ClipStore) -> None:
        """The linear start, from data; the same in all learners."""
        if self.frozen or self.goes_on:
            return
        start_linear(self.vae, store.pieces(48, 13), self.weights)
        if self.together is not None:
            # Components of different data do not average: the others add nothing.
            values = [p.data for p in self.vae.parameters()]
            factor = len(self.together.rows) if self.rank == 0 else 0
            for value in values:
                value.mul_(factor)
            self.together.mean(values, self.rank)
        self.average.load_state_dict(self.vae.state_dict())

    def learn(self, store: ClipStore, progress: float) -> torch.Tensor:
        batch = store.batch(self.step)
        place = (self.seed * 1_000_003 + self.step) * 64 + store.part
        device = batch.video.device
        generator = torch.Generator(device).manual_seed(place)
        b, _, t, height, width = batch.video.shape
        shape = (b, self.vae.latent_mean.shape[0], (t - 1) // 4 + 1, height // 8, width // 8)
        noise = torch.randn(shape, generator=generator, device=device)
        leftover: torch.Tensor | float = 0.0
        if self.leftover:
            amount = torch.rand(b, 1, 1, 1, 1, generator=generator, device=device)
            drawn = torch.randn(shape, generator=generator, device=device)
            leftover = self.leftover * amount * drawn
        with torch.autocast(device.type, torch.bfloat16, enabled=self.rounds):
            loss = vae_loss(self.vae, batch, self.weights, noise, leftover)
        return self.descend(loss, progress)


@torch.no_grad()
def measure_latents(vae: CompactVAE, video: Tensor) -> None:
    """Set `latent_mean` and `latent_std` from video [B, 3, T, S, S]. A channel's deviation becomes
    the fourth root of how visible it is, mean square 1: equal ones would be denoised equally well,
    though the picture depends 300 times as much on the first as on the last."""
    vae.latent_mean.zero_()
    vae.latent_std.fill_(1)
    latents = torch.cat([vae.encode(piece) for piece in video.split(4)])
    mean, std = latents.mean((0, 2, 3, 4)), latents.std((0, 2, 3, 4))
    wanted = visibility(vae, latents[:VISIBLE_CLIPS], std) ** 0.25
    wanted /= wanted.square().mean().sqrt()
    vae.latent_mean.copy_(mean)
    vae.latent_std.copy_(std / wanted)


@torch.no_grad()
def visibility(vae: CompactVAE, latents: Tensor, std: Tensor) -> Tensor:
    """[C]: squared change of the picture per squared deviation `std` [C] of a latent's channel.
    `latents` [B, C, t, h, w] are raw: `vae` normalises with mean 0 and deviation 1."""
    made, _ = vae.decode(latents)
    noise = torch.randn(latents[:, 0].shape, generator=torch.Generator().manual_seed(0))
    noise = NUDGE * noise.to(latents)
    found = []
    for channel, deviation in enumerate(std):
        nudged = latents.clone()
        nudged[:, channel] += deviation * noise
        found.append((vae.decode(nudged)[0] - made).square().mean() / NUDGE**2)
    return torch.stack(found)


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
        self.dev = [WORLDS[args.world](i, DEV_FRAMES, args.size, "dev") for i in range(DEV_CLIPS)]
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
    size = sum(p.numel() for p in CompactVAE(CompactVAEConfig()).parameters())
    start_learners(args, size, learner)


def learner(args: argparse.Namespace, together: Together | None, rank: int) -> None:
    """Learn until the schedule ends; the first learner also keeps time, scores and saves."""
    torch.set_num_threads(1)
    device = chosen(args)
    weights = LossWeights(change=args.change_weight)
    begins = (args.encoder_of, args.start, args.rate)
    training = Training(args.seed, together, rank, *begins, weights, args.leftover, device,
                        args.products)  # fmt: skip
    if args.resume:
        load_state(training, args.out, device)
    of = (training.seed, args.size, training.step, rank, args.threads)
    many = {"times": args.parts, "workers": max(1, args.workers), "device": device,
            "world": args.world}  # fmt: skip
    with ClipStore(*of, **many) as store:
        if not args.resume:
            training.start(store)
        if rank:
            follow(training, partial(training.learn, store))
        else:
            VaeRun(training, store, args).go()


def evaluate(vae: CompactVAE, clips: list[Drawn], *, find_pose: bool = False) -> Figures:
    """The gate's figures over `clips`, each of 1 + 4n frames."""
    return summary([clip_scores(c, reconstruct(vae, c.frames), find_pose=find_pose) for c in clips])


def test(args: argparse.Namespace) -> None:
    """Every gate's figure on fresh faces, whole clips; the last line is JSON."""
    vae = load_checkpoint(CompactVAE(CompactVAEConfig()), args.out / "vae.safetensors")
    drawn = WORLDS[args.world]
    clips = (drawn(i, TEST_FRAMES, args.size, "test") for i in range(args.clips))
    result = evaluate(vae, list(clips), find_pose=True)
    passed = passes(result)
    for name, (sign, wanted) in GATES.items():
        verdict = "passes" if passed[name] else "FAILS"
        print(f"{name:16} {result[name]:8.3f}  {sign} {wanted:<6} {verdict}")
    for name in sorted(set(result) - set(GATES)):
        print(f"{name:24} {result[name]:8.3f}")
    print(json.dumps(result | {"passes": passed, "clips": args.clips, "size": args.size}))
