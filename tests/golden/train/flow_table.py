"""The releases' table of 1000 noise levels, which the golden tests compare with."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.denoising.schedule import NUM_TRAIN_TIMESTEPS, NoiseTable
from train.network.flow import over_latent, shifted


def euler_sigmas(num_steps: int, shift: float) -> Tensor:
    """Levels [num_steps + 1] of the papers' teacher, from 1 to 0 exactly.

    The last step ends at 0 and no level is shifted twice: not the schedule that is served.
    """
    return shifted(torch.linspace(1, 0, num_steps + 1, dtype=torch.float64), shift).float()


class FlowTable:
    """1000 noise levels from 1 down, 0 not among them; bit by bit those of the releases.

    sigmas, timesteps (1000 * sigmas) and training_weights: [1000] float32, noisiest first.
    """

    def __init__(self, shift: float) -> None:
        table = NoiseTable(shift)
        self.sigmas = torch.from_numpy(table.sigmas)
        self.timesteps = torch.from_numpy(table.timesteps)
        # A bell over the timestep, lowered to touch 0, of mean 1.
        bell = torch.exp(-2 * (self.timesteps.double() / NUM_TRAIN_TIMESTEPS - 0.5) ** 2)
        bell = bell - bell.min()
        self.training_weights = (bell * NUM_TRAIN_TIMESTEPS / bell.sum()).float()

    def sigma(self, timesteps: Tensor) -> Tensor:
        """The noise share of the nearest table entry: at 0 it is not 0."""
        return self.sigmas[self._nearest(timesteps)].to(timesteps.device)

    def training_weight(self, timesteps: Tensor) -> Tensor:
        """Weight of the pre-training loss at the nearest table entry (docs/method.md section 9)."""
        return self.training_weights[self._nearest(timesteps)].to(timesteps.device)

    def warped(self, steps: Sequence[int]) -> Tensor:
        """Denoising steps 1..1000 as they are asked for -> timesteps on the grid."""
        return self.timesteps[NUM_TRAIN_TIMESTEPS - torch.tensor(steps)]

    def _nearest(self, timesteps: Tensor) -> Tensor:
        return (self.timesteps - timesteps.float().cpu()[..., None]).abs().argmin(-1)


def velocity_from(noisy: Tensor, clean: Tensor, sigma: Tensor) -> Tensor:
    """The inverse of `clean_from`; `sigma` > 0."""
    return (noisy - clean) / over_latent(sigma, noisy)
