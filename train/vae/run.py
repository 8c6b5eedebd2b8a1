"""Train the demo's VAE on the drawn world, or score it on faces it has never seen.

    python -m train.vae --minutes 60 --threads 2 --out out/vae [--resume]
    python -m train.vae --minutes 60 --start out/vae/vae.safetensors --out out/longer
    python -m train.vae --minutes 60 --encoder-of out/vae/vae.safetensors --out out/decoder
    python -m train.vae --evaluate --out out/vae

OUT receives vae.safetensors (averaged weights and latent statistics, for the exporter), state.pt
(everything to go on from), log.jsonl, curve.png and samples.png. With `--steps` instead of
`--minutes` the learning rate follows the steps, and equal seeds give equal weights; not so with
several `--workers`, whose clips are taken as they come.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from networks.checkpoint import load_checkpoint, save_checkpoint
from networks.compact_vae import CompactVAE
from networks.configs import CompactVAEConfig
from train.learning.device import add_options, chosen
from train.learning.loop import Together, described, follow, lead, start_learners
from train.preset import SIZE
from train.vae.clips import ClipStore
from train.vae.loss import LossWeights
from train.vae.scores import GATES, clip_scores, passes, reconstruct, summary
from train.vae.training import Training
from train.world.clips import Clip, clip

DEV_CLIPS, DEV_FRAMES = 12, 49
TEST_CLIPS, TEST_FRAMES = 32, 125
VISIBLE_CLIPS, NUDGE = 6, 0.3
"""On how many clips, and by how many deviations, latents are nudged to see what shows."""
SHOWN = (
    *("psnr", "psnr_mouth", "psnr_eyes", "opening", "width", "boundary_ratio", "static_flicker"),
    *("static_flicker_inside", "motion_inside", "motion_inside_along"),
)
PANELS = {
    "PSNR (dB)": ("psnr", "psnr_mouth", "psnr_eyes"),
    "loss": ("loss",),
    "mouth opening and width": ("opening", "width"),
    "change at boundaries / inside": ("boundary_ratio",),
    "static flicker (grey levels)": ("static_flicker", "static_flicker_inside"),
    "motion inside latents": ("motion_inside", "motion_inside_along"),
}


@torch.no_grad()
def measure_latents(vae: CompactVAE, video: Tensor) -> None:
    """Set `latent_mean` and `latent_std` from video [B, 3, T, S, S].

    A channel's deviation after normalisation is the fourth root of how visible it is, mean square
    1. Channels of equal deviation would all be denoised equally well, though the picture depends
    300 times as much on the first as on the last.
    """
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

    `latents` [B, C, t, h, w] are raw: `vae` normalises with mean 0 and deviation 1.
    """
    made, _ = vae.decode(latents)
    noise = torch.randn(latents[:, 0].shape, generator=torch.Generator().manual_seed(0))
    noise = NUDGE * noise.to(latents)
    found = []
    for channel, deviation in enumerate(std):
        nudged = latents.clone()
        nudged[:, channel] += deviation * noise
        found.append((vae.decode(nudged)[0] - made).square().mean() / NUDGE**2)
    return torch.stack(found)


def evaluate(vae: CompactVAE, clips: list[Clip], *, find_pose: bool = False) -> dict[str, float]:
    """The gate's figures over `clips`, each of 1 + 4n frames."""
    return summary([clip_scores(c, reconstruct(vae, c.frames), find_pose=find_pose) for c in clips])


def write_samples(path: Path, vae: CompactVAE, clips: list[Clip]) -> None:
    """Frames 18 to 22 of some clips, truth above reconstruction."""
    rows = []
    for c in clips:
        made = reconstruct(vae, c.frames)
        for frames in (c.frames, made):
            rows.append(np.concatenate(list(frames[18:23]), 1))
    half = len(rows) // 2 + len(rows) // 2 % 2
    columns = [np.concatenate(rows[:half]), np.concatenate(rows[half : 2 * half])]
    if columns[0].shape == columns[1].shape:
        columns = [np.concatenate(columns, 1)]
    image = Image.fromarray(columns[0])
    image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST).save(path)


def save(training: Training, store: ClipStore, dev: list[Clip], out: Path) -> None:
    """Everything in OUT, the state last and in one move."""
    vae = copy.deepcopy(training.average)
    if not training.frozen:
        measure_latents(vae, store.pieces(48, 29).video)
    save_checkpoint(vae, out / "vae.safetensors")
    write_samples(out / "samples.png", vae, dev[:6])
    training.save(out, PANELS)


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
        state = torch.load(args.out / "state.pt", weights_only=False, map_location=device)
        training.load(state)
    of = (training.seed, args.size, training.step, rank, args.threads)
    many = {"times": args.parts, "workers": max(1, args.workers), "device": device}
    with ClipStore(*of, **many) as store:
        if not args.resume:
            training.start(store)
        learn = partial(training.learn, store)
        if rank:
            follow(training, learn)
            return
        dev = [clip(i, DEV_FRAMES, args.size, "dev") for i in range(DEV_CLIPS)]

        def keep(progress: float) -> None:
            print(described(training.rows[-1], progress, SHOWN), flush=True)
            save(training, store, dev, args.out)

        lead(training, args, learn, lambda _: evaluate(training.average, dev), keep)


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


def main() -> None:
    parser = argparse.ArgumentParser(description="Train or score the compact VAE.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the schedule")
    parser.add_argument("--steps", type=int, help="length of the schedule in steps instead")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=SIZE, help="side of the picture in pixels")
    parser.add_argument("--every", type=float, default=2.0, help="minutes between evaluations")
    begins = parser.add_mutually_exclusive_group()
    begins.add_argument("--start", type=Path, help="a VAE to go on from")
    begins.add_argument("--encoder-of", type=Path, help="a VAE whose decoder alone goes on")
    parser.add_argument(
        "--change-weight",
        type=float,
        default=LossWeights().change,
        help="of errors in the change between frames: what moves inside a latent",
    )
    parser.add_argument(
        "--leftover",
        type=float,
        default=0.0,
        help="highest deviation of noise on latents: a decoder that sees through it",
    )
    parser.add_argument("--rate", type=float, default=1.0, help="times all learning rates")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--evaluate", action="store_true", help="score OUT/vae.safetensors")
    parser.add_argument("--clips", type=int, default=TEST_CLIPS, help="faces to evaluate on")
    add_options(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.resume and not (args.out / "state.pt").is_file():
        sys.exit(f"{args.out}: no state.pt to resume from")
    if args.leftover and not args.encoder_of:
        parser.error("--leftover is a decoder's alone: it wants --encoder-of")
    try:
        (test if args.evaluate else train)(args)
    except ValueError as error:
        sys.exit(f"vae: {error}")


if __name__ == "__main__":
    main()
