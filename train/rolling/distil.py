"""A student's run: how it does on prompts that it does not learn from, as it would be served."""

import argparse
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image

from networks.causal_wan import CausalWan
from networks.checkpoint import load_checkpoint, save_checkpoint
from train.learning.device import chosen
from train.learning.learner import Figures
from train.learning.loop import Run, load_state
from train.network import quick_layers
from train.preset import SCENES
from train.rolling.clips import SceneClips
from train.rolling.lessons import Texts
from train.rolling.network import quicken
from train.rolling.stream import stream
from train.rolling.students import Recipe, Student
from train.rolling.teacher import DevScenes
from train.scenes.preview import row
from train.vae.video import to_frames

SHOWN, BLOCKS = 4, 20  # streams that are looked at, and their blocks: 15 s
ENDS = 6  # blocks at either end that are compared


class StudentRun(Run):
    """Its minutes are those of the processor, as the teacher's."""

    panels: ClassVar = {
        "distance of the scores": ("gradient",),
        "critic": ("critic_loss",),
        "motion, spread over the truth's": ("motion", "spread"),
        "late over early spread": ("drift",),
    }
    shown = ("motion", "spread", "drift")

    def __init__(self, student: Student, clips: SceneClips, args: argparse.Namespace) -> None:
        self.student = student
        self.dev = DevScenes(args.clips, args.weights, args.device)
        super().__init__(student, lambda _: student.match(clips), args)

    def progress(self) -> float:
        steps = self.args.steps
        return self.student.dmd_step / steps if steps else self.spent() / self.args.minutes

    def spent(self) -> float:
        return self.student.cpu_seconds / 60

    def score(self) -> Figures:
        """Streams under the student's rules; `drift` is how far apart late blocks' latents are
        from each stream's early ones, in deviations."""
        dev, rules = self.dev, self.student.rules
        _, channels, frames, height, width = rules.latent_shape
        size = (SHOWN, channels, frames, height, width)
        generator = torch.Generator().manual_seed(2)

        def noise(*_: int) -> torch.Tensor:
            return torch.randn(size, generator=generator).to(dev.latents)

        text = dev.text[:SHOWN]
        with quick_layers.products(dev.latents.device):
            made = list(stream(self.student.average, rules, text, noise, BLOCKS))
        whole = torch.cat(made, 2).float()
        change = whole.diff(dim=2).square().mean() / dev.latents.diff(dim=2).square().mean()
        early, late = (torch.cat(part, 2).mean(2) for part in (made[1 : 1 + ENDS], made[-ENDS:]))
        self._show(whole)
        apart = (late - early).square().mean().sqrt()
        figures = {"motion": change, "spread": whole.std() / dev.latents.std()}
        figures["drift"] = apart / dev.latents.std()
        return {name: float(value) for name, value in figures.items()}

    def _show(self, latents: torch.Tensor) -> None:
        rows = []
        for latent, title in zip(latents, self.dev.captions, strict=False):
            with torch.no_grad():
                frames = to_frames(self.dev.vae.decode(latent[None].cpu())[0])[0]
            places = np.linspace(0, len(frames) - 1, 12, dtype=int)
            rows.append(row([frames[i] for i in places], title))
        Image.fromarray(np.concatenate(rows)).save(self.out / "samples.png")

    def write(self) -> None:
        save_checkpoint(self.student.average, self.out / "wan.safetensors")


def load(path: Path) -> CausalWan:
    """A network of `SCENES`, quick on a CPU."""
    return quicken(load_checkpoint(CausalWan(SCENES.wan), path))


def distil(args: argparse.Namespace) -> None:
    """Learn until the hours are over."""
    torch.set_num_threads(args.threads)
    device = chosen(args)
    quick_layers.set_products(args.products)
    args.minutes = 60 * args.hours
    texts = Texts(args.weights / "text_encoder.safetensors")
    given = {"generator_rate": args.rate * Recipe.generator_rate,
             "critic_rate": args.rate * Recipe.critic_rate}  # fmt: skip
    recipe = Recipe(rules=args.rules, sink=not args.no_sink, window_share=args.window_share,
                    guidance=args.guidance, batch=args.batch, **given)  # fmt: skip
    student = Student(load(args.teacher).to(device), recipe, texts, args.seed)
    if args.resume and (args.out / "state.pt").is_file():
        load_state(student, args.out, device)
    StudentRun(student, SceneClips(args.clips / "train"), args).go(args.rules)
