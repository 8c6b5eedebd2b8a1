"""The compact VAE: as a stream what it is as a clip, and everything in it can learn."""

import pytest
import torch

from networks.checkpoint import build_seeded, load_checkpoint, save_checkpoint
from networks.compact_vae import CompactVAE, build_vae
from networks.configs import CompactVAEConfig, VAEConfig
from networks.vae import VAE

TOLERANCE = 1e-4
"""Float32 sums in another order, on outputs of size 1 to 3; seen: about 1e-6."""


@pytest.fixture(scope="module")
def vae() -> CompactVAE:
    """Seeded weights, with latent statistics that are not the neutral ones."""
    vae = build_seeded(lambda: CompactVAE(CompactVAEConfig()), seed=1)
    vae.latent_mean.copy_(torch.linspace(-1, 1, 16))
    vae.latent_std.copy_(torch.linspace(0.5, 2, 16))
    return vae


def video(batch: int, frames: int, height: int = 64, width: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(frames)
    return torch.rand(batch, 3, frames, height, width, generator=generator) * 2 - 1


@pytest.mark.parametrize("size", [(64, 64), (96, 96), (128, 64)])
def test_latents_are_a_quarter_in_time_and_an_eighth_in_space(vae, size):
    """The pipeline's shapes, for every picture size that may be trained."""
    latent = vae.encode(video(2, 9, *size))
    assert latent.shape == (2, 16, 3, size[0] // 8, size[1] // 8)
    frames, state = vae.decode(latent)
    assert frames.shape == (2, 3, 9, *size)
    assert all(s.shape[0] == 4 for s in state)  # two frames of two clips


@pytest.mark.parametrize("cuts", [(1, 1, 1, 1, 1, 1, 1), (3, 3, 1), (7,), (2, 5)])
def test_streamed_frames_equal_those_of_the_whole_clip(vae, cuts):
    """A state left out or in the wrong order would show as a seam between blocks."""
    latent = vae.encode(video(2, 25))
    whole, _ = vae.decode(latent)
    pieces, state = [], None
    for piece in latent.split(cuts, dim=2):
        frames, state = vae.decode(piece, state)
        pieces.append(frames)
    assert torch.allclose(torch.cat(pieces, 2), whole, atol=TOLERANCE)


def test_latents_do_not_see_later_frames(vae):
    """Causal: a latent that saw the future could not be made live."""
    clip = video(1, 17)
    longer = vae.encode(clip)
    assert torch.allclose(vae.encode(clip[:, :, :9]), longer[:, :, :3], atol=TOLERANCE)
    clip[:, :, 9:] = 0
    assert torch.allclose(vae.encode(clip)[:, :, :3], longer[:, :, :3], atol=TOLERANCE)


def test_first_frame_makes_the_first_latent_alone(vae):
    """The reference latent is made from one picture."""
    clip = video(1, 5)
    alone = vae.encode(clip[:, :, :1])
    assert torch.allclose(alone, vae.encode(clip)[:, :, :1], atol=TOLERANCE)
    assert vae.decode(alone)[0].shape == (1, 3, 1, 64, 64)


@pytest.mark.parametrize("num_frames", [1, 5, 13, 73])
def test_a_still_picture_is_encoded_as_its_repetition(vae, num_frames):
    """Only the transient is computed; a transient taken too short would drift from the clip."""
    picture = video(2, 1)
    whole = vae.encode(picture.expand(-1, -1, num_frames, -1, -1))
    assert torch.allclose(vae.encode(picture, num_frames), whole, atol=TOLERANCE)


def test_it_stays_small(vae):
    """1.5 million parameters, so that a block decodes in real time beside everything else."""
    assert sum(p.numel() for p in vae.parameters()) <= 1_600_000


def test_gradient_reaches_every_parameter():
    """A parameter without gradient would never be trained and would go unnoticed."""
    torch.manual_seed(0)
    vae = CompactVAE(CompactVAEConfig())
    mean, log_variance = vae.moments(video(1, 9))
    frames, _ = vae.decode(mean)
    ((frames**2).mean() + (log_variance**2).mean()).backward()
    silent = [n for n, p in vae.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_statistics_are_saved_with_the_weights(vae, tmp_path):
    """Latents are normalised by numbers of the training data, which only the file knows."""
    save_checkpoint(vae, tmp_path / "vae.safetensors")
    loaded = load_checkpoint(CompactVAE(CompactVAEConfig()), tmp_path / "vae.safetensors")
    assert torch.equal(loaded.latent_std, vae.latent_std)
    clip = video(1, 5)
    assert torch.equal(loaded.encode(clip), vae.encode(clip))


@pytest.mark.parametrize("wrong", [(4, 64, 64), (5, 60, 64)])
def test_sizes_that_do_not_fit_are_refused(vae, wrong):
    """Silently cropped latents would be found much later."""
    with pytest.raises(ValueError, match="wanted"):
        vae.encode(video(1, *wrong))


def test_a_preset_may_have_either_vae():
    """Exporter and training ask for the network by its configuration alone."""
    assert isinstance(build_vae(CompactVAEConfig()), CompactVAE)
    assert isinstance(build_vae(VAEConfig(dim=8)), VAE)
