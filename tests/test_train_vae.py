"""The trained VAE's latents: how they are normalised, and what its decoder has to see through."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from networks.checkpoint import save_checkpoint  # noqa: E402
from networks.compact_vae import CompactVAE  # noqa: E402
from networks.configs import CompactVAEConfig  # noqa: E402
from train.vae import measure_latents, visibility  # noqa: E402
from train.vae_clips import Batch  # noqa: E402
from train.vae_training import Training  # noqa: E402


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


class SameClip:
    """In place of a store of drawn clips: one batch, again and again."""

    part = 0

    def __init__(self, video: torch.Tensor) -> None:
        regions = torch.zeros(*video[:, 0].shape, dtype=torch.uint8)
        self.of = Batch(video=video, regions=regions)

    def batch(self, step: int) -> Batch:
        return self.of


def test_a_decoder_learns_to_see_through_what_is_left_of_the_noise(video, tmp_path: Path) -> None:
    """Noise that a few-step model leaves in its latents would be drawn. The encoder stays: what is
    learned in its latents would be lost."""
    vae = CompactVAE(CompactVAEConfig()).requires_grad_(False)
    save_checkpoint(vae, tmp_path / "vae.safetensors")
    clip = SameClip(video * 0.1)
    latents = vae.encode(clip.of.video)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(7))

    def shown(by: CompactVAE) -> float:
        with torch.no_grad():
            clean, _ = by.decode(latents)
            noisy, _ = by.decode(latents + 0.5 * noise)
        return float((noisy - clean).square().mean())

    found = []
    for leftover in (0.0, 2.0):
        of = {"encoder_of": tmp_path / "vae.safetensors", "rate": 8.0}
        training = Training(0, **of, leftover=leftover)
        for _ in range(60):
            training.learn(clip, 0.0)
        found.append(shown(training.vae))
        for name, value in training.vae.encoder.state_dict().items():
            assert value.equal(vae.encoder.state_dict()[name]), name
    assert found[1] < 0.8 * found[0]
