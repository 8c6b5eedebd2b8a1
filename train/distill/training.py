"""What learns in distillation, the student, its average and the critic, and by which numbers.

Stage A is regression on the teacher's way from noise to clean, stage B pushes the student's own
roll-outs towards the teacher's distribution (docs/method.md section 9). All draws follow from the
seed and the step.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from networks.dit import DiT
from train.distill.data import Trajectories, clip_velocity, guided_velocity, scene_of
from train.distill.dmd import Velocity
from train.distill.matching import DMD, Matching, descend, optimiser
from train.distill.rollout import Scene, Surroundings, rolling_rollout, rollout
from train.latents.clips import LatentClips
from train.learning.device import moved_to
from train.learning.learner import Figures
from train.network.flow import over_latent
from train.network.stream_network import check

ODE = 2  # tells apart its draws from those of matching
CHOICES = {"ode_target": ("clean", "next"), "schedule": ("sequential", "rolling")}  # of `Recipe`


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Numbers of both stages; rates and updates as the papers' where a small network allows."""

    blocks: int = 5  # blocks of a clip
    around: Surroundings
    schedule: str = "sequential"
    """Of roll-outs, as in `RolloutOptions`; `rolling` is on clean history."""
    ode_batch: int = 4
    ode_rate: float = 5e-4
    ode_target: str = "clean"  # what a step has to reach: `clean` as in the papers, or the `next`
    ode_guidance: float = 1.0  # of trajectories, on sound; 1 is none, anything else costs twice
    dmd_batch: int = 3
    exits: int | None = None
    """Sequential roll-outs end at one of the first `exits` steps; None: 3. The served schedule's
    last step weighs its velocity with 0.009: nothing would be learned there."""
    generator_rate: float = 1e-4
    critic_rate: float = 2e-4
    critic_updates: int = 5  # per update of the student
    critic_lead: int = 10  # updates of the critic before the student's first
    rollouts: int = 2  # kept for the critic; each meets several of its updates, with other noise
    guidance: float = 1.5  # of the teacher as the real score, on sound; 1 is none
    recalibrate: bool = True
    """The reference becomes the first frame: at a random block, in the window at the served one."""
    ema: float = 0.99

    def __post_init__(self) -> None:
        check(self, CHOICES, "blocks", "ode_batch", "dmd_batch", "critic_updates", "rollouts")
        steps = self.around.config.num_steps
        if self.schedule == "rolling" and self.exits is not None:
            raise ValueError(f"exits is {self.exits}, but rolling blocks end at every level")
        if not 1 <= self.num_exits <= steps:
            raise ValueError(f"exits is {self.exits}, wanted 1..{steps}")

    @property
    def num_exits(self) -> int:
        return 3 if self.exits is None else self.exits


class Distillation(Matching):
    """Both stages of the avatar."""

    PLACE = ("ode_step", "dmd_step")
    PARTS = ("student", "average", "critic", "regression", "generation", "criticism")
    ode_step: int

    def __init__(self, teacher: DiT, recipe: Recipe, seed: int, start: DiT | None = None) -> None:
        super().__init__(teacher, recipe, seed, recipe.around.config.shift, start)
        self.regression = optimiser(self.student, recipe.ode_rate, (0.9, 0.99))

    def learning_copy(self, network: DiT) -> DiT:
        """But for the pose's weight: no pose is ever given."""
        copied: DiT = super().learning_copy(network)
        copied.cond_encoder.weight.requires_grad_(False)
        return copied

    def regress(self, trajectories: Trajectories, progress: float) -> Figures:
        """One step of stage A at `progress` 0..1: each clip at a level of its own."""
        recipe, around = self.recipe, self.recipe.around
        rng = np.random.default_rng([self.seed, ODE, self.ode_step])
        batch = trajectories.batch(rng, recipe.ode_batch)
        states, weight, scene = (moved_to(self.device, part) for part in batch)
        rows = torch.arange(len(states))
        level = torch.from_numpy(rng.integers(around.config.num_steps, size=len(states)))
        sigmas = torch.from_numpy(around.schedule.sigmas)
        aim = level + 1 if recipe.ode_target == "next" else torch.full_like(level, len(sigmas) - 1)
        x, timesteps = states[rows, level], torch.from_numpy(around.schedule.timesteps)[level]
        timesteps, jump = (t.to(self.device) for t in (timesteps, sigmas[aim] - sigmas[level]))
        velocity = clip_velocity(self.student, x, timesteps, scene, around)
        reached = x + over_latent(jump, x) * velocity
        loss = ((reached - states[rows, aim]) ** 2 * weight).mean() / weight.mean()
        for group in self.regression.param_groups:
            group["lr"] = recipe.ode_rate * (1 + np.cos(np.pi * min(progress, 1))) / 2
        descend(loss, self.student, self.regression, clip=1.0)
        self._follow(self.ode_step)
        self.ode_step += 1
        return {"ode_loss": float(loss.detach())}

    def roll_out(self, clips: LatentClips, purpose: int) -> tuple[Tensor, Scene]:
        """The student's clean latents [B, C, n * F, h, w] on new scenes, with a gradient if on."""
        recipe = self.recipe
        rng = np.random.default_rng([self.seed, DMD, self.dmd_step, purpose])
        pieces = moved_to(self.device, clips.batch(rng, recipe.dmd_batch, recipe.blocks))
        scene = scene_of(rng, pieces)
        generator = self._generator(purpose)
        noise = torch.randn(pieces.latents.shape, generator=generator, device=self.device)
        of = (self.student, scene, recipe.around, generator, noise)
        if recipe.schedule == "rolling":
            offset = int(rng.integers(recipe.around.config.num_steps))
            return rolling_rollout(*of, offset, recalibrate=recipe.recalibrate), scene
        last = min(recipe.around.config.recalibrate_block, recipe.blocks - 1)
        change = int(rng.integers(1, last + 1)) if recipe.recalibrate and last > 0 else None
        return rollout(*of, int(rng.integers(recipe.num_exits)), change), scene

    def score(self, network: DiT, scene: Scene, *, guided: bool) -> Velocity:
        guidance = self.recipe.guidance if guided else 1.0
        return guided_velocity(network, scene, self.recipe.around, guidance)
