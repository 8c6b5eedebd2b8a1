"""The VAE's training: losses, linear start, learning together; how its latents are normalised, and
what its decoder has to see through."""

import copy
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from networks.checkpoint import save_checkpoint
from networks.compact_vae import CompactVAE
from networks.configs import CompactVAEConfig
from train.learning.together import Together
from train.vae.clips import Batch
from train.vae.loss import LossWeights, picture_loss, start_linear
from train.vae.training import Training, measure_latents, visibility
from train.world.render import REGIONS

SIDE = 16


pytestmark = pytest.mark.usefixtures("one_thread")


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

    def pieces(self, count: int, length: int) -> Batch:
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


def at_once(*work: Callable[[], object]) -> None:
    """Each in a thread of its own, as learners are in processes."""
    threads = [threading.Thread(target=one, daemon=True) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_learners_agree_on_means_and_on_the_first_ones_progress() -> None:
    """They would take other steps, or end at other times and wait for each other."""
    together, agreed = Together(2, 8), {}
    tensors = [
        [torch.tensor([1.0, 2.0]), torch.eye(2)],
        [torch.tensor([3.0, 8.0]), torch.ones(2, 2)],
    ]

    def learner(rank: int) -> None:
        together.mean(tensors[rank], rank)
        agreed[rank] = together.agree(0.25 + rank / 2, rank)

    at_once(partial(learner, 0), partial(learner, 1))
    for vector, matrix in tensors:
        assert vector.tolist() == [2, 5]
        assert matrix.tolist() == [[1, 0.5], [0.5, 1]]
    assert agreed == {0: 0.25, 1: 0.25}


def test_learners_on_different_clips_keep_equal_weights(video: torch.Tensor) -> None:
    """They would drift apart, or learn from the first one's clips alone."""
    stores = [SameClip(0.5 * of[:, :, :5, :SIDE, :SIDE]) for of in video.split(2)]
    together = Together(2, sum(p.numel() for p in CompactVAE(CompactVAEConfig()).parameters()))
    trainings = [Training(0, together, 0), Training(0, together, 1), Training(0)]
    started = []

    def learn(training: Training, store: SameClip) -> None:
        training.start(store)
        started.append(copy.deepcopy(training.vae.state_dict()))
        training.learn(store, 0.0)

    at_once(*(partial(learn, *of) for of in zip(trainings, stores, strict=False)))
    learn(trainings[2], stores[0])
    for states in (started, [training.vae.state_dict() for training in trainings]):
        assert all(value.equal(states[1][name]) for name, value in states[0].items())
    # The start is the first one's, the step that of both.
    assert all(value.equal(started[0][name]) for name, value in started[2].items())
    name = "decoder.shortcut.weight"
    assert not trainings[0].vae.state_dict()[name].equal(trainings[2].vae.state_dict()[name])


def test_the_linear_start_draws_what_few_components_make_up(video: torch.Tensor) -> None:
    """The first minutes would go into what an eigenvalue problem solves, or be lost on pixels in
    another order than the network's."""
    torch.manual_seed(3)
    source, vae = (CompactVAE(CompactVAEConfig()).requires_grad_(False) for _ in range(2))
    source.decoder.head.weight.zero_()
    latents = torch.randn(8, 16, 4, 2, 2)
    latents[:, 12:] = 0
    made, _ = source.decode(latents)
    regions = torch.randint(len(REGIONS), made[:, 0].shape, dtype=torch.uint8)
    start_linear(vae, Batch(video=made, regions=regions), LossWeights())
    found, _ = vae.decode(vae.encode(made))
    error, size = ((x[:, :, 1:]).std() for x in (found - made, made))  # frame 0 stands for four
    assert error < 0.01 * size
    mean, log_variance = vae.moments(made)
    assert log_variance.max() < -4  # the posterior hardly blurs it
    assert mean.std((0, 2, 3, 4))[:12].min() > 0.3


def test_the_loss_weighs_where_and_when_an_error_is() -> None:
    """Mouths and steps between latents would count as little as the wall behind them."""
    weights = LossWeights(edges=0, static=0)
    truth = torch.rand(1, 3, 13, 8, 8, generator=torch.Generator().manual_seed(0))

    def loss(frames: slice, region: str = "background", of: LossWeights = weights) -> float:
        regions = torch.zeros(1, 13, 8, 8, dtype=torch.uint8)
        regions[:, :, 4, 4] = REGIONS.index(region)
        made = truth.clone()
        made[:, :, frames, 4, 4] += 0.1
        return float(picture_loss(made, Batch(video=truth, regions=regions), of))

    plain, always = REGIONS[0], slice(None)
    assert loss(always, "mouth") == pytest.approx(6 * loss(always, plain), rel=1e-3)
    assert loss(always, "eyes") == pytest.approx(3 * loss(always, plain), rel=1e-3)
    change = LossWeights(edges=0, static=0, square=0)
    assert loss(always, plain, change) == pytest.approx(0, abs=1e-9)
    border, *inside = (loss(slice(first, None), plain, change) for first in (5, 6, 7, 8))
    assert inside == pytest.approx([border / 1.5] * 3, rel=1e-3)
    assert loss(slice(1, None), plain, change) == pytest.approx(border, rel=1e-3)


def test_the_loss_punishes_flicker_where_nothing_moves() -> None:
    """Walls would shimmer."""
    truth = torch.zeros(1, 3, 13, 8, 8)
    truth[..., 4:] = torch.rand(13, 1, 1, generator=torch.Generator().manual_seed(0))
    batch = Batch(video=truth, regions=torch.zeros(1, 13, 8, 8, dtype=torch.uint8))
    only_static = LossWeights(edges=0, square=0, change=0)
    flicker = torch.zeros_like(truth)
    flicker[:, :, ::2] = 0.1
    still, moving = (torch.arange(8) < 4, torch.arange(8) >= 4)
    assert float(picture_loss(truth + flicker * still, batch, only_static)) == pytest.approx(
        0.3 * 0.1 / 2, rel=1e-3
    )
    assert float(picture_loss(truth + flicker * moving, batch, only_static)) == 0
