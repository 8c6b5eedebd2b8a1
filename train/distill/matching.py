"""Distribution matching: a student that makes clips, a critic that learns what it makes, a teacher.

What a student makes and how it is scored is its system's: `Matching.roll_out`, `Matching.score`
(docs/method.md section 9). All draws follow from the seed and the step.
"""

import copy
from abc import ABC, abstractmethod
from collections import deque
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from train.distill.data import generator_of
from train.distill.dmd import Velocity, critic_loss, generator_loss, score_timesteps
from train.learning.device import device_of
from train.learning.learner import Figures, Learner, averaged, move_average

DMD = 3  # tells apart its draws from those of other stages
Scene = Any
"""What a clip is conditioned on."""


class MatchingRecipe(Protocol):
    """Numbers of every recipe."""

    generator_rate: float
    critic_rate: float
    critic_updates: int  # per update of the student
    critic_lead: int  # updates of the critic before the student's first
    rollouts: int  # kept for the critic; each meets several of its updates, with other noise
    ema: float


class Matching(Learner, ABC):
    """Networks, optimisers and place; `teacher` is frozen, all learn on its device."""

    PLACE: ClassVar[tuple[str, ...]] = ("dmd_step",)
    KEPT: ClassVar[tuple[str, ...]] = (*Learner.KEPT, "samples")
    PARTS: ClassVar[tuple[str, ...]] = ("student", "average", "critic", "generation", "criticism")
    dmd_step: int

    def __init__(
        self, teacher: Any, recipe: Any, seed: int, shift: float, start: Any | None = None
    ) -> None:
        """`start`: what the student begins as; None: as its teacher. `shift`: of the noise levels
        at which scores are compared."""
        super().__init__(seed)
        self.teacher, self.shift = teacher.requires_grad_(False), shift
        self.recipe = recipe
        self.device = device_of(teacher)
        start = teacher if start is None else start
        self.student, self.critic = self.learning_copy(start), self.learning_copy(teacher)
        self.average = copy.deepcopy(start).requires_grad_(False)
        self.samples: deque[tuple[Tensor, Scene]] = deque(maxlen=recipe.rollouts)
        self.generation = optimiser(self.student, recipe.generator_rate, (0.0, 0.999))
        self.criticism = optimiser(self.critic, recipe.critic_rate, (0.0, 0.999))

    @abstractmethod
    def roll_out(self, clips: Any, purpose: int) -> tuple[Tensor, Scene]:
        """The student's clean latents [B, C, F, h, w] on new scenes, with a gradient if on.
        `purpose` tells apart the draws of a step."""

    @abstractmethod
    def score(self, network: Any, scene: Scene, *, guided: bool) -> Velocity:
        """The velocity of a score network on noisy clips of a scene."""

    def learning_copy(self, network: Any) -> Any:
        return copy.deepcopy(network).requires_grad_(True)

    def match(self, clips: Any) -> Figures:
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
        loss = critic_loss(latents, noise, timesteps, self.score(self.critic, scene, guided=False))
        descend(loss, self.critic, self.criticism, clip=10.0)
        self.dmd_step += 1
        return figures | {"critic_loss": float(loss.detach())}

    def _improve_student(self, clips: Any, turn: int) -> Figures:
        latents, scene = self.roll_out(clips, 2)
        noise, timesteps = self._noise_levels(latents, 3)
        real = self.score(self.teacher, scene, guided=True)
        fake = self.score(self.critic, scene, guided=False)
        loss, gradient = generator_loss(latents, noise, timesteps, fake, real)
        descend(loss, self.student, self.generation, clip=10.0)
        self._follow(turn)
        self.samples.append((latents.detach(), scene))
        return {"gradient": gradient}

    def _noise_levels(self, latents: Tensor, purpose: int) -> tuple[Tensor, Tensor]:
        """Noise as latents and a timestep per clip, moved towards the noise by the served shift."""
        draws = {"generator": self._generator(purpose), "device": self.device}
        noise = torch.randn(latents.shape, **draws)
        raw = torch.randint(1000, (len(latents),), **draws)
        return noise, score_timesteps(raw, self.shift)

    def _generator(self, purpose: int) -> torch.Generator:
        return generator_of(self.seed, DMD, self.dmd_step, purpose, device=self.device)

    def _follow(self, step: int) -> None:
        move_average(self.average, self.student, averaged(self.recipe.ema, step))


def optimiser(network: nn.Module, rate: float, betas: tuple[float, float]) -> torch.optim.AdamW:
    learned = [p for p in network.parameters() if p.requires_grad]
    return torch.optim.AdamW(learned, rate, betas=betas, weight_decay=0.01)


def descend(loss: Tensor, network: nn.Module, steps: torch.optim.Optimizer, clip: float) -> None:
    network.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), clip)
    steps.step()
