"""The trained VAE's latents: how they are normalised for the diffusion model."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

from networks.compact_vae import CompactVAE  # noqa: E402
from networks.configs import CompactVAEConfig  # noqa: E402
from train.vae import measure_latents, visibility  # noqa: E402


@pytest.fixture(scope="module")
def video() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(4, 3, 9, 32, 32, generator=generator) * 2 - 1


@pytest.fixture(scope="module")
def vae() -> CompactVAE:
    torch.manual_seed(0)
    vae = CompactVAE(CompactVAEConfig()).requires_grad_(False)
    # A channel that fills the picture and one that hardly shows.
    vae.decoder.shortcut.weight[:, 0] *= 10
    vae.decoder.shortcut.weight[:, 1] = 0
    return vae


def test_normalising_latents_does_not_change_the_picture(vae, video) -> None:
    """A trained decoder would have to be trained again."""
    measured = copy.deepcopy(vae)
    measure_latents(measured, video)
    wanted, _ = vae.decode(vae.encode(video))
    found, _ = measured.decode(measured.encode(video))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def test_what_shows_more_has_more_deviation(vae, video) -> None:
    """Noise would hide colours of whole regions as much as details that nobody sees."""
    measured = copy.deepcopy(vae)
    measure_latents(measured, video)
    latents = measured.encode(video)
    deviation = latents.std((0, 2, 3, 4))
    raw = vae.encode(video)
    shows = visibility(vae, raw, raw.std((0, 2, 3, 4)))
    assert shows.argmax() == deviation.argmax() == 0
    torch.testing.assert_close(deviation.square().mean(), torch.tensor(1.0), rtol=1e-3, atol=0)
    ratio = (deviation / deviation[0]) ** 4
    torch.testing.assert_close(ratio, shows / shows[0], rtol=1e-2, atol=1e-5)
    torch.testing.assert_close(latents.mean((0, 2, 3, 4)), torch.zeros(16), rtol=0, atol=1e-3)
