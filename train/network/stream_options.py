"""How streams are rolled out in torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CHOICES = {
    "schedule": ("sequential", "rolling"),
    "history": ("own level", "clean"),
    "sampler": ("euler", "renoise"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutOptions:
    """The defaults are the served pipeline's."""

    num_steps: int = 4
    schedule: Literal["sequential", "rolling"] = "sequential"
    """`rolling`: a window of as many blocks as there are steps, each at another noise level, is
    denoised jointly (Rolling Forcing, arXiv 2509.25161)."""
    history: Literal["own level", "clean"] = "own level"
    """What blocks see of those before: K and V at their own noise level, or of a clean pass."""
    sampler: Literal["euler", "renoise"] = "euler"
    """`renoise`: predict the clean latent, add fresh noise."""
    sink: bool = True
    """False: reference and motion are not seen."""
    sink_blocks: int | None = None
    """Only so many blocks see the sink, then it is forgotten like any block; None: all do."""
    recalibrate: bool = True
    """From the pipeline's `recalibrate_block` on, the reference is the first generated frame."""
    sink_distance: int | None = None
    """Latent frames; None: the preset's."""
    window_blocks: int | None = None
    """Blocks that are seen, the current one included, and of a rolling window its first; None: the
    preset's."""
    guidance: float = 1.0
    """1: as conditioned. Else the velocity without sound, plus `guidance` times what sound adds."""
    exit_step: int | None = None
    """A block ends after this step with the clean latent it points to; None: after the last."""

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}, wanted one of {choices}")
        if self.schedule == "rolling" and self.history != "clean":
            raise ValueError(
                f"schedule is 'rolling' and history {self.history!r}, wanted 'clean': blocks of a "
                "window read one cache, written by a clean pass"
            )
        for name in ("num_steps", "window_blocks", "sink_blocks"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted 1 or more")
        if self.exit_step is not None and not 0 <= self.exit_step < self.num_steps:
            raise ValueError(f"exit_step is {self.exit_step}, wanted 0..{self.num_steps - 1}")

    @property
    def num_levels(self) -> int:
        """Steps that a block takes."""
        return self.num_steps if self.exit_step is None else self.exit_step + 1
