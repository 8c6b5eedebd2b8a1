"""Which GPU owns which denoising steps and where the VAE and the encoders stand.

With a GPU per step and one for the VAE nothing waits for anything else. On fewer GPUs neighbours
are folded together: a stage that owns several steps runs them one after another with one copy of
the weights and a cache for each step. Standard library only.
"""

import math
from dataclasses import dataclass

VAE_LOAD = 0.5
"""Work of the VAE decoder per block, in denoising steps: an estimate, for choosing alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Stage i owns `steps[i]` and stands on GPU i; the VAE and the encoders stand on `vae_gpu`."""

    steps: tuple[tuple[int, ...], ...]
    vae_gpu: int

    def __post_init__(self) -> None:
        owned = [step for stage in self.steps for step in stage]
        if owned != list(range(len(owned))):
            raise ValueError(f"steps are placed as {self.steps}, wanted each once, in order")

    @property
    def num_gpus(self) -> int:
        return max(len(self.steps), self.vae_gpu + 1)

    def load_of(self, gpu: int) -> float:
        """Work of a GPU per block, in denoising steps."""
        steps = self.steps[gpu] if gpu < len(self.steps) else ()
        return len(steps) + VAE_LOAD * (gpu == self.vae_gpu)

    @property
    def load(self) -> float:
        """Work of the busiest GPU per block: the pipeline's period."""
        return max(map(self.load_of, range(self.num_gpus)))

    def __str__(self) -> str:
        names = [f"GPU {i}: steps {','.join(map(str, s))}" for i, s in enumerate(self.steps)]
        return "; ".join([*names, f"GPU {self.vae_gpu}: VAE and encoders"])


def place(num_steps: int, num_gpus: int) -> Placement:
    """The placement with the shortest period; of two equal ones that with fewer stages.

    `num_gpus` is 1..num_steps + 1, else ValueError.
    """
    if not 1 <= num_gpus <= num_steps + 1:
        raise ValueError(
            f"{num_gpus} GPUs for {num_steps} steps, wanted 1..{num_steps + 1} "
            "(one for each step, one for the VAE)"
        )
    shared = Placement(steps=folded(num_steps, num_gpus), vae_gpu=num_gpus - 1)
    if num_gpus == 1:
        return shared
    alone = Placement(steps=folded(num_steps, num_gpus - 1), vae_gpu=num_gpus - 1)
    return alone if alone.load <= shared.load else shared


def folded(num_steps: int, num_stages: int) -> tuple[tuple[int, ...], ...]:
    """Steps in order over at most `num_stages` stages, the first ones with one more."""
    stages, next_step = [], 0
    for left in range(min(num_stages, num_steps), 0, -1):
        count = math.ceil((num_steps - next_step) / left)
        stages.append(tuple(range(next_step, next_step + count)))
        next_step += count
    return tuple(stages)
