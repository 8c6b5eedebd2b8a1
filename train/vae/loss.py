"""What the VAE is trained to do, and the linear start of its shortcuts.

B batch   T frames   S the picture's side in pixels   P = 4 * 8 * 8 * 3 values of a latent's pixels
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from networks.compact_vae import GROUP, PATCH, CompactVAE
from networks.vae_layers import frames_first
from train.vae.clips import Batch
from train.world.render import REGIONS

TEMPORAL = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """Of the parts of the loss; mouth and eyes: of their pixels, beside 1 for the others."""

    mouth: float = 6.0
    eyes: float = 3.0
    square: float = 8.0
    change: float = 64.0  # of squared errors in the difference between successive frames
    boundary: float = 1.5  # how much more that counts where one latent's frames meet the next one's
    static: float = 0.3  # of changes where the truth does not change at all
    edges: float = 0.03
    kl: float = 3e-5


def region_weights(regions: Tensor, weights: LossWeights) -> Tensor:
    """uint8 [B, T, S, S] to float32 [B, 1, T, S, S]."""
    table = torch.ones(len(REGIONS), device=regions.device)
    table[REGIONS.index("mouth")] = weights.mouth
    table[REGIONS.index("eyes")] = weights.eyes
    return table[regions.long()].unsqueeze(1)


def vae_loss(
    vae: CompactVAE,
    batch: Batch,
    weights: LossWeights,
    noise: Tensor,
    leftover: Tensor | float = 0.0,
) -> Tensor:
    """`noise` [B, C, t, h, w]: standard normal, for the posterior's sample. `leftover`, of the same
    shape: what a few-step model would leave of its noise in normalised latents."""
    mean, log_variance = vae.moments(batch.video)
    log_variance = log_variance.clamp(-12, 4)
    sample = mean + (0.5 * log_variance).exp() * noise
    made, _ = vae.decode(vae.normalised(sample) + leftover)
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
    return picture_loss(made, batch, weights) + weights.kl * kl


def picture_loss(made: Tensor, batch: Batch, weights: LossWeights) -> Tensor:
    focus = region_weights(batch.regions, weights)
    error = made - batch.video
    loss = weights.square * (error**2 * focus).mean()
    change = error.diff(dim=2)
    seam = torch.ones(change.shape[2], device=change.device)
    seam[::GROUP] = weights.boundary  # frame 4k to 4k + 1
    seam = (seam / seam.mean()).view(1, 1, -1, 1, 1)
    loss = loss + weights.change * (change**2 * focus[:, :, 1:] * seam).mean()
    still = (batch.video.diff(dim=2).abs().amax(1, keepdim=True) == 0) * seam
    loss = loss + weights.static * (made.diff(dim=2).abs() * still).mean()
    across, down = error.diff(dim=4).abs().mean(), error.diff(dim=3).abs().mean()
    return loss + weights.edges * (across + down)


def groups(video: Tensor) -> Tensor:
    """The pixels of all latents but the first, [n, P], in the order of the shortcuts."""
    x = F.pixel_unshuffle(F.pixel_unshuffle(frames_first(video[:, :, 1:]), PATCH), 2)
    x = x.unflatten(0, (-1, GROUP, video.shape[0]))  # [t, 4, B, 192, h, w]
    return x.permute(0, 2, 4, 5, 1, 3).flatten(4).flatten(0, 3)


def temporal_basis() -> Tensor:
    """Orthonormal cosines over the frames of a latent, [4, 4]; row 0 is the mean."""
    place = (torch.arange(GROUP) + 0.5) * torch.pi / GROUP
    rows = torch.cos(torch.arange(GROUP).view(-1, 1) * place)
    return rows / rows.norm(dim=1, keepdim=True)


@torch.no_grad()
def start_linear(vae: CompactVAE, batch: Batch, weights: LossWeights) -> None:
    """Make the shortcuts a principal component analysis and silence the convolutions. Changes
    inside a latent count `TEMPORAL` times as much as its mean picture: by their own size they would
    get none of the few components."""
    x = groups(batch.video)
    focus = region_weights(batch.regions, weights).expand(-1, 3, -1, -1, -1)
    sample_weight = groups(focus).mean(1, keepdim=True)
    centre = x.mean(0)
    scale = torch.ones(GROUP).to(x)
    scale[1:] = TEMPORAL
    basis, channels = temporal_basis().to(x), x.shape[1] // GROUP
    eye = torch.eye(channels).to(x)
    forward = torch.kron(torch.diag(scale) @ basis, eye)
    backward = torch.kron(basis.T @ torch.diag(1 / scale), eye)
    y = (x - centre) @ forward.T
    covariance = (y * sample_weight).T @ y / sample_weight.sum()
    values, vectors = torch.linalg.eigh(covariance)
    count = vae.latent_mean.shape[0]
    values, vectors = values[-count:].flip(0).clamp_min(1e-6), vectors[:, -count:].flip(1)
    encode = (vectors / values.sqrt()).T @ forward  # [C, P]
    decode = backward @ vectors * values.sqrt()  # [P, C]
    enter, leave = vae.encoder.shortcut, vae.decoder.shortcut
    enter.weight.copy_(encode.unflatten(1, (GROUP, channels)).transpose(1, 2)[..., None, None])
    enter.bias.copy_(-encode @ centre)
    leave.weight.copy_(decode.view_as(leave.weight))
    leave.bias.copy_(centre)
    for head in (vae.encoder.head, vae.decoder.head):
        head.weight.zero_()
        head.bias.zero_()
    vae.encoder.head.bias[count:] = -6.0
    for name, p in vae.named_parameters():
        if name.endswith(("residual.6.weight", "conv2.weight")):
            p.mul_(0.3)
