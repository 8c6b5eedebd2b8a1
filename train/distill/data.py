"""What distillation learns from: conditions of clips, and the teacher's way from noise to clean.

B clips   n blocks of F latent frames   C channels   h, w latent size   K levels of the student
"""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from networks.checkpoint import save_tensors
from networks.dit import DiT
from pipeline.denoising.schedule import Schedule
from train.distill.dmd import guided
from train.distill.rollout import Scene, Surroundings
from train.latents.clips import LatentBatch, LatentClips
from train.network.batched_dit import Conditions
from train.network.parallel import velocities
from train.teacher.pieces import EYES_WEIGHT, MOUTH_WEIGHT, RECALIBRATED, told_place


def scene_of(rng: np.random.Generator, batch: LatentBatch) -> Scene:
    """The conditions of pieces, without their latents; places and references as the teacher's.
    Pieces from mid-stream may be told to be anywhere later, and their reference may be one of their
    own frames, as after re-calibration."""
    starts, references = [], []
    for row, block in enumerate(batch.first_block.tolist()):
        reference, first = batch.reference[row], told_place(rng, block)
        if first and rng.random() < RECALIBRATED:
            frame = int(rng.integers(batch.latents.shape[2]))
            reference = batch.latents[row, :, frame : frame + 1]
        starts.append(first)
        references.append(reference)
    conditions = Conditions(
        reference=torch.stack(references),
        motion=batch.motion,
        text=batch.text,
        audio=torch.cat(batch.audio_features.unbind(1), -1),
    )
    return Scene(conditions=conditions, starts=tuple(starts))


def clip_velocity(
    dit: DiT, latents: Tensor, timesteps: Tensor, scene: Scene, around: Surroundings
) -> Tensor:
    """What the teacher, the critic, and the student in its regression say of a whole clip."""
    seen = {"starts": scene.starts, "sink": around.sink, "config": around.config}
    return velocities(dit, latents, timesteps, scene.conditions, **seen)


def guided_velocity(
    teacher: DiT, scene: Scene, around: Surroundings, guidance: float
) -> Callable[[Tensor, Tensor], Tensor]:
    """The teacher's velocity; `guidance` as in `RolloutOptions`, on the sound."""

    def velocity(latents: Tensor, timesteps: Tensor) -> Tensor:
        spoken = clip_velocity(teacher, latents, timesteps, scene, around)
        if guidance == 1:
            return spoken
        silent = clip_velocity(teacher, latents, timesteps, scene.silent, around)
        return guided(spoken, silent, guidance - 1)

    return velocity


@torch.no_grad()
def trajectory(
    teacher: DiT,
    scene: Scene,
    noise: Tensor,
    around: Surroundings,
    *,
    num_steps: int = 40,
    guidance: float = 1.0,
) -> Tensor:
    """noise [B, C, n * F, h, w] -> [B, K + 1, C, n * F, h, w]: the states at the student's levels
    and the clean end, by `num_steps` Euler steps of the teacher. Every level has the history of
    that level, as when served. `num_steps` is 1 + a multiple of K - 1: then the finer schedule of
    the same shift passes through the student's levels."""
    levels = around.config.num_steps
    stride, rest = divmod(num_steps - 1, max(levels - 1, 1))
    if rest or num_steps < levels:
        raise ValueError(
            f"{num_steps} teacher steps miss the levels of a {levels}-step student, wanted 1 + a "
            f"multiple of {levels - 1}"
        )
    schedule = Schedule(num_steps, around.config.shift)
    velocity = guided_velocity(teacher, scene, around, guidance)
    x, states = noise, []
    for step, dsigma in enumerate(schedule.dsigmas.tolist()):
        if step % stride == 0:
            states.append(x)
        timesteps = x.new_full((len(x),), float(schedule.timesteps[step]))
        x = x + dsigma * velocity(x, timesteps)
    return torch.stack([*states, x], 1)


class Trajectories:
    """Stored trajectories, one file per batch; what a file holds depends on its number alone."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed

    def path(self, number: int) -> Path:
        return self.folder / f"{number:05d}.safetensors"

    def make(
        self,
        number: int,
        clips: LatentClips,
        teacher: DiT,
        around: Surroundings,
        *,
        batch: int,
        blocks: int,
        num_steps: int,
        guidance: float,
    ) -> None:
        rng = np.random.default_rng([self.seed, 1, number])
        pieces = clips.batch(rng, batch, blocks)
        scene = scene_of(rng, pieces)
        noise = torch.randn(pieces.latents.shape, generator=generator_of(self.seed, 1, number))
        states = trajectory(teacher, scene, noise, around, num_steps=num_steps, guidance=guidance)
        mouth, eyes = pieces.regions.unbind(2)
        kept = {f.name: getattr(scene.conditions, f.name) for f in fields(Conditions)} | {
            "states": states,
            "starts": torch.tensor(scene.starts),
            "weight": (1 + MOUTH_WEIGHT * mouth + EYES_WEIGHT * eyes)[:, None],
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        save_tensors({k: v.contiguous() for k, v in kept.items()}, self.path(number))

    def load(self, count: int) -> None:
        """Take the first `count` files into memory."""
        files = [load_file(self.path(number)) for number in range(count)]
        all_of = {name: torch.cat([file[name] for file in files]) for name in files[0]}
        self.states, self.weight = all_of.pop("states"), all_of.pop("weight")
        starts = tuple(all_of.pop("starts").tolist())
        self.scene = Scene(conditions=Conditions(**all_of), starts=starts)

    def batch(self, rng: np.random.Generator, batch: int) -> tuple[Tensor, Tensor, Scene]:
        """States [B, K + 1, C, n * F, h, w] of different clips, the weight of their errors [B, 1, n
        * F, h, w] (mouth and eyes count more) and their scene."""
        count = len(self.states)
        chosen = rng.choice(count, batch, replace=batch > count).tolist()
        return self.states[chosen], self.weight[chosen], self.scene.rows(chosen)


def generator_of(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Draws that follow from the numbers alone; another device draws others."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) // 2
    return torch.Generator(device).manual_seed(seed)
