"""What learns in the VAE's training: network, optimisers, linear start."""

from pathlib import Path

import torch

from networks.checkpoint import load_checkpoint
from networks.compact_vae import CompactVAE
from networks.configs import CompactVAEConfig
from train.learning.learner import AveragedLearner
from train.learning.together import Together
from train.vae.clips import ClipStore
from train.vae.loss import LossWeights, start_linear, vae_loss

MUON_RATE, ADAM_RATE, SHORTCUT_RATE = 4e-2, 3e-3, 1e-3


class Training(AveragedLearner):
    """Network, its average, optimisers and place in the data."""

    def __init__(
        self,
        seed: int,
        together: Together | None = None,
        rank: int = 0,
        encoder_of: Path | None = None,
        start: Path | None = None,
        rate: float = 1.0,
        weights: LossWeights | None = None,
        leftover: float = 0.0,
        device: torch.device | str = "cpu",
    ) -> None:
        """`together`: None for a learner that is alone. `encoder_of`: go on from that VAE with a
        frozen encoder, so that latents made with it stay valid while the decoder improves.
        `start`: go on from that VAE as a whole. `rate`: what all learning rates are multiplied by.
        `leftover`: highest standard deviation of noise on normalised latents. `device`: where it
        learns."""
        torch.manual_seed(seed)
        self.vae, self.weights = CompactVAE(CompactVAEConfig()), weights or LossWeights()
        self.leftover = leftover
        self.frozen, self.goes_on = encoder_of is not None, start is not None
        if (trained := encoder_of or start) is not None:
            load_checkpoint(self.vae, trained)
            (self.vae.decoder if self.frozen else self.vae).requires_grad_(True)
        self.vae.to(device)
        super().__init__(seed, self.vae, together, rank, rate)
        named = [(name, p) for name, p in self.vae.named_parameters() if p.requires_grad]
        shortcuts = [p for name, p in named if "shortcut.weight" in name]
        matrices = [p for name, p in named if "shortcut" not in name and p.dim() > 4]
        rest = [p for name, p in named if p.dim() <= 4]
        self.optimise((matrices, MUON_RATE), (rest, ADAM_RATE), (shortcuts, SHORTCUT_RATE))

    def start(self, store: ClipStore) -> None:
        """The linear start, from data; the same in all learners."""
        if self.frozen or self.goes_on:
            return
        start_linear(self.vae, store.pieces(48, 13), self.weights)
        if self.together is not None:
            # Components of different data do not average: the others add nothing.
            values = [p.data for p in self.vae.parameters()]
            factor = len(self.together.rows) if self.rank == 0 else 0
            for value in values:
                value.mul_(factor)
            self.together.mean(values, self.rank)
        self.average.load_state_dict(self.vae.state_dict())

    def learn(self, store: ClipStore, progress: float) -> torch.Tensor:
        """One step at `progress` 0..1 of the schedule; returns the loss."""
        batch = store.batch(self.step)
        place = (self.seed * 1_000_003 + self.step) * 64 + store.part
        device = batch.video.device
        generator = torch.Generator(device).manual_seed(place)
        b, _, t, height, width = batch.video.shape
        shape = (b, self.vae.latent_mean.shape[0], (t - 1) // 4 + 1, height // 8, width // 8)
        noise = torch.randn(shape, generator=generator, device=device)
        leftover: torch.Tensor | float = 0.0
        if self.leftover:
            amount = torch.rand(b, 1, 1, 1, 1, generator=generator, device=device)
            drawn = torch.randn(shape, generator=generator, device=device)
            leftover = self.leftover * amount * drawn
        loss = vae_loss(self.vae, batch, self.weights, noise, leftover)
        return self.descend(loss, progress)
