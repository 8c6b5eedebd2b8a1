"""What learns in distillation, the student, its average and the critic, and by which numbers.

Stage A is regression on the teacher's way from noise to clean, stage B pushes the student's own
roll-outs towards the teacher's distribution (docs/method.md section 9). All draws follow from the
seed and the step.
"""

import copy
from collections import deque
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from networks.dit import DiT
from train.distill.data import (
    Scene,
    Trajectories,
    clip_velocity,
    generator_of,
    guided_velocity,
    scene_of,
)
from train.distill.dmd import critic_loss, generator_loss, score_timesteps
from train.distill.rollout import Surroundings, rolling_rollout, rollout
from train.latents.clips import LatentClips
from train.learning.device import device_of, moved_to
from train.learning.learner import Figures, Learner, averaged, move_average
from train.network.flow import over_latent
from train.network.stream_network import check

ODE, DMD = 2, 3  # tell apart the draws of the two stages
CHOICES = {"ode_target": ("clean", "next"), "schedule": ("sequential", "rolling")}  # of `Recipe`


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Numbers of both stages; rates and updates as the papers' where a small network allows."""

    blocks: int = 5  # blocks of a clip
    around: Surroundings
    schedule: str = "sequential"
    """Of roll-outs, as in `RolloutOptions`: by timestep forcing, or `rolling`: in the joint window
    on clean history."""
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
    """From a random block on, the reference is the roll-out's own first frame; in the joint window
    from the served block on, when the first one is done."""
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


class Distillation(Learner):
    """Networks, optimisers and place; `teacher` is frozen, all learn on its device."""

    PLACE = ("ode_step", "dmd_step")
    KEPT: ClassVar = (*Learner.KEPT, "samples")
    PARTS = ("student", "average", "critic", "regression", "generation", "criticism")
    ode_step: int
    dmd_step: int

    def __init__(self, teacher: DiT, recipe: Recipe, seed: int, start: DiT | None = None) -> None:
        """`start`: what the student begins as; None: as its teacher."""
        super().__init__(seed)
        self.teacher, self.recipe = teacher.requires_grad_(False), recipe
        self.device = device_of(teacher)
        start = teacher if start is None else start
        self.student, self.critic = learning_copy(start), learning_copy(teacher)
        self.average = copy.deepcopy(start).requires_grad_(False)
        self.samples: deque[tuple[Tensor, Scene]] = deque(maxlen=recipe.rollouts)
        self.regression = optimiser(self.student, recipe.ode_rate, (0.9, 0.99))
        self.generation = optimiser(self.student, recipe.generator_rate, (0.0, 0.999))
        self.criticism = optimiser(self.critic, recipe.critic_rate, (0.0, 0.999))

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

    def match(self, clips: LatentClips) -> Figures:
        """One critic update of stage B, and before it the student's if its turn has come."""
        recipe, step = self.recipe, self.dmd_step
        if step == 0:
            self.student.load_state_dict(self.average.state_dict())
        figures = {}
        turn, place = divmod(step, recipe.critic_updates)
        if place == 0 and step >= recipe.critic_lead:
            figures = self._improve_student(clips, turn)
        elif place % max(1, recipe.critic_updates // recipe.rollouts) == 0 or not self.samples:
            with torch.no_grad():
                self.samples.append(self.roll_out(clips, 0))
        latents, scene = self.samples[step % len(self.samples)]
        noise, timesteps = self._noise_levels(latents, 1)
        loss = critic_loss(latents, noise, timesteps, self._score(self.critic, scene))
        descend(loss, self.critic, self.criticism, clip=10.0)
        self.dmd_step += 1
        return figures | {"critic_loss": float(loss.detach())}

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

    def _improve_student(self, clips: LatentClips, turn: int) -> Figures:
        latents, scene = self.roll_out(clips, 2)
        noise, timesteps = self._noise_levels(latents, 3)
        real = guided_velocity(self.teacher, scene, self.recipe.around, self.recipe.guidance)
        fake = self._score(self.critic, scene)
        loss, gradient = generator_loss(latents, noise, timesteps, fake, real)
        descend(loss, self.student, self.generation, clip=10.0)
        self._follow(turn)
        self.samples.append((latents.detach(), scene))
        return {"gradient": gradient}

    def _score(self, network: DiT, scene: Scene):
        return guided_velocity(network, scene, self.recipe.around, 1.0)

    def _noise_levels(self, latents: Tensor, purpose: int) -> tuple[Tensor, Tensor]:
        """Noise as latents and a timestep per clip, moved towards the noise by the served shift."""
        draws = {"generator": self._generator(purpose), "device": self.device}
        noise = torch.randn(latents.shape, **draws)
        raw = torch.randint(1000, (len(latents),), **draws)
        return noise, score_timesteps(raw, self.recipe.around.config.shift)

    def _generator(self, purpose: int) -> torch.Generator:
        return generator_of(self.seed, DMD, self.dmd_step, purpose, device=self.device)

    def _follow(self, step: int) -> None:
        move_average(self.average, self.student, averaged(self.recipe.ema, step))


def learning_copy(network: DiT) -> DiT:
    """A copy with gradients, but for the pose's weight: no pose is ever given."""
    copied = copy.deepcopy(network).requires_grad_(True)
    copied.cond_encoder.weight.requires_grad_(False)
    return copied


def optimiser(network: DiT, rate: float, betas: tuple[float, float]) -> torch.optim.AdamW:
    learned = [p for p in network.parameters() if p.requires_grad]
    return torch.optim.AdamW(learned, rate, betas=betas, weight_decay=0.01)


def descend(loss: Tensor, network: DiT, steps: torch.optim.Optimizer, clip: float) -> None:
    network.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), clip)
    steps.step()
