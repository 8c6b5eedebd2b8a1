"""The numbers of both stages of distillation."""

from dataclasses import dataclass

from train.distill.rollout import Surroundings

CHOICES = {"ode_target": ("clean", "next"), "schedule": ("sequential", "rolling")}
"""Of fields of `Recipe`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Numbers of both stages; rates and updates as the papers' where a small network allows."""

    blocks: int = 5
    """Blocks of a clip."""
    around: Surroundings
    schedule: str = "sequential"
    """Of roll-outs, as in `RolloutOptions`: by timestep forcing, or `rolling`: in the joint window
    on clean history."""
    ode_batch: int = 4
    ode_rate: float = 5e-4
    ode_target: str = "clean"
    """What a step is taught to reach: `clean`, as in the papers, or the student's `next` level."""
    ode_guidance: float = 1.0
    """Of the teacher's trajectories, on sound; 1 is none, anything else doubles their cost."""
    dmd_batch: int = 3
    exits: int | None = None
    """Sequential roll-outs end at one of the first `exits` steps; None: 3. The served schedule's
    last step weighs its velocity with 0.009: nothing would be learned there."""
    generator_rate: float = 1e-4
    critic_rate: float = 2e-4
    critic_updates: int = 5
    """Per update of the student."""
    critic_lead: int = 10
    """Updates of the critic before the student's first."""
    rollouts: int = 2
    """Kept for the critic; each meets several of its updates, with other noise."""
    guidance: float = 1.5
    """Of the teacher as the real score, on sound; 1 is none."""
    recalibrate: bool = True
    """From a random block on, the reference is the roll-out's own first frame; in the joint window
    from the served block on, when the first one is done."""
    ema: float = 0.99

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}, wanted one of {choices}")
        steps = self.around.config.num_steps
        if self.schedule == "rolling" and self.exits is not None:
            raise ValueError(f"exits is {self.exits}, but rolling blocks end at every level")
        if not 1 <= self.num_exits <= steps:
            raise ValueError(f"exits is {self.exits}, wanted 1..{steps}")
        for name in ("blocks", "ode_batch", "dmd_batch", "critic_updates", "rollouts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted 1 or more")

    @property
    def num_exits(self) -> int:
        return 3 if self.exits is None else self.exits
