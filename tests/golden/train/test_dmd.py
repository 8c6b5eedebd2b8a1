"""Distribution-matching losses against the release's, and against finite differences."""

import json
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from networks.causal_wan import CausalWan
from tests.golden.fixtures import GOLDEN_ROOT, max_abs
from tests.golden.presets import wan_config
from tests.golden.train.flow_table import FlowTable
from train.distill.dmd import (
    Levels,
    clean_estimate,
    critic_loss,
    generator_loss,
    guided,
    matching_gradient,
    matching_loss,
    score_timesteps,
)
from train.network.flow import add_noise

DMD = GOLDEN_ROOT / "rolling_forcing" / "dmd"
needs_fixtures = pytest.mark.skipif(
    not (DMD / "config.json").is_file(), reason=f"no fixtures at {DMD}; set GOLDEN_ROOT"
)
MANIFEST = (
    json.loads((DMD / "config.json").read_text())
    if (DMD / "config.json").is_file()
    else {"cases": []}
)
every_case = pytest.mark.parametrize("case", MANIFEST["cases"], ids=lambda case: case["case"])

LATENT, LOSS, GRADIENT = 2e-5, 1e-4, 1e-3
"""The README's: absolute; relative; relative to the tensor's largest value."""


def data() -> dict[str, Tensor]:
    return load_file(DMD / "dmd.safetensors")


def score(name: str) -> CausalWan:
    network = CausalWan(wan_config(MANIFEST["config"]))
    state = load_file(DMD / f"{name}_score.safetensors")
    network.load_state_dict({k.removeprefix("model."): v for k, v in state.items()})
    return network


def latents(x: Tensor) -> Tensor:
    """Between the fixtures' [B, F, C, h, w] and [B, C, F, h, w]."""
    return x.transpose(1, 2)


def levels() -> Levels:
    shifts = MANIFEST["student_scheduler_shift"], MANIFEST["score_scheduler_shift"]
    added, scored = (FlowTable(shift).sigma for shift in shifts)
    return added, scored


def run(network: CausalWan, text: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
    """A score network's velocity: all frames at one timestep, seeing each other."""
    return network(noisy, timesteps[:, None].expand(-1, noisy.shape[2]), text)


def counted(case: dict) -> Tensor | None:
    if case["gradient_mask"] is None:
        return None
    assert case["gradient_mask"] == "first_block"
    frames = torch.arange(MANIFEST["frames"]) >= MANIFEST["config"]["frames_per_block"]
    return frames.expand(MANIFEST["batch"], -1)


def relative(got: Tensor, wanted: Tensor) -> float:
    return max_abs(got, wanted) / float(wanted.abs().max())


@needs_fixtures
@every_case
def test_draws_become_the_release_timesteps_and_noisy_samples(case: dict) -> None:
    """Scores would be compared at other noise levels."""
    of, wanted = case["case"], data()
    timesteps = score_timesteps(wanted[f"{of}.raw_t"], MANIFEST["timestep_shift"])
    # Timesteps of up to 1000 in float32.
    assert max_abs(timesteps, wanted[f"{of}.timestep"][:, 0]) <= 1e-3
    noisy = add_noise(
        latents(wanted["x_gen"]), latents(wanted[f"{of}.noise"]), levels().added(timesteps)
    )
    assert max_abs(noisy, latents(wanted[f"{of}.noisy"])) <= LATENT


@needs_fixtures
@every_case
def test_score_networks_predict_the_release_clean_latents(case: dict) -> None:
    """Velocity would be turned to a clean latent at the wrong noise share."""
    of, wanted = case["case"], data()
    noisy, timesteps = latents(wanted[f"{of}.noisy"]), wanted[f"{of}.timestep"][:, 0]
    for name, text, key in (
        ("fake", "cond", "fake_x0"),
        ("real", "cond", "real_x0_cond"),
        ("real", "uncond", "real_x0_uncond"),
    ):
        with torch.no_grad():
            velocity = partial(run, score(name), wanted[text])
            clean = clean_estimate(velocity, noisy, timesteps, levels())
        assert max_abs(clean, latents(wanted[f"{of}.{key}"])) <= LATENT, key


@needs_fixtures
@every_case
def test_loss_of_stored_predictions_equals_the_release(case: dict) -> None:
    """Normalisation, guidance, mask or the factor one half would be wrong."""
    of, wanted = case["case"], data()
    x = latents(wanted["x_gen"]).requires_grad_(True)
    fake, conditioned, free = (
        latents(wanted[f"{of}.{key}"]) for key in ("fake_x0", "real_x0_cond", "real_x0_uncond")
    )
    real = guided(conditioned, free, MANIFEST["real_guidance_scale"])
    gradient = matching_gradient(x.detach(), fake, real)
    assert relative(gradient, latents(wanted[f"{of}.kl_grad"])) <= LOSS
    loss = matching_loss(x, gradient, counted(case))
    loss.backward()
    assert loss.item() == pytest.approx(case["dmd_loss"], rel=LOSS)
    assert relative(x.grad, latents(wanted[f"{of}.x_grad"])) <= LOSS


@needs_fixtures
@every_case
def test_generator_loss_equals_the_release_from_samples_to_gradient(case: dict) -> None:
    """The parts fit, but in the wrong order or with the wrong conditioning."""
    of, wanted, real_score = case["case"], data(), score("real")

    def real(noisy: Tensor, timesteps: Tensor) -> Tensor:
        conditioned, free = (
            run(real_score, wanted[key], noisy, timesteps) for key in ("cond", "uncond")
        )
        return guided(conditioned, free, MANIFEST["real_guidance_scale"])

    x = latents(wanted["x_gen"]).requires_grad_(True)
    loss, norm = generator_loss(
        x,
        latents(wanted[f"{of}.noise"]),
        wanted[f"{of}.timestep"][:, 0],
        partial(run, score("fake"), wanted["cond"]),
        real,
        levels=levels(),
        counted=counted(case),
    )
    loss.backward()
    assert loss.item() == pytest.approx(case["dmd_loss"], rel=LOSS)
    assert norm == pytest.approx(case["dmdtrain_gradient_norm"], rel=LOSS)
    # Differences of two networks' outputs, each to 2e-6.
    assert relative(x.grad, latents(wanted[f"{of}.x_grad"])) <= LOSS


@needs_fixtures
@every_case
def test_critic_loss_and_gradients_equal_the_release(case: dict) -> None:
    """The critic would learn another score than the one that is compared."""
    of, wanted, critic = case["case"], data(), score("fake")
    loss = critic_loss(
        latents(wanted["x_gen"]),
        latents(wanted[f"{of}.noise"]),
        wanted[f"{of}.critic_timestep"][:, 0],
        partial(run, critic, wanted["cond"]),
        levels=levels(),
    )
    loss.backward()
    assert loss.item() == pytest.approx(case["critic_loss"], rel=LOSS)
    prefix = f"{of}.critic_grad.model."
    names = [k.removeprefix(prefix) for k in wanted if k.startswith(prefix)]
    assert names
    parameters = dict(critic.named_parameters())
    for name in names:
        assert relative(parameters[name].grad, wanted[prefix + name]) <= GRADIENT, name


@pytest.mark.parametrize("masked", [False, True])
def test_derivative_of_the_loss_is_the_gradient_over_the_number_of_elements(masked: bool) -> None:
    """The step would grow with the size of the clip, or reach frames that do not count."""
    torch.manual_seed(0)
    x, gradient = torch.randn(2, 2, 4, 3, 5, 2, dtype=torch.float64)
    frames = torch.tensor([[False, True, True], [True, True, False]]) if masked else None
    # The target of the loss stays where it is when x moves: the loss is that of a constant.
    target = x - gradient

    def loss(moved: Tensor) -> float:
        return float(matching_loss(moved, moved - target, frames))

    x = x.requires_grad_(True)
    matching_loss(x, gradient, frames).backward()
    h = 1e-4
    for place in ((0, 0, 0, 0, 0), (1, 2, 1, 3, 1), (1, 3, 2, 4, 0), (0, 1, 2, 2, 1)):
        step = torch.zeros_like(x)
        step[place] = h
        with torch.no_grad():
            slope = (loss(x + step) - loss(x - step)) / (2 * h)
        # A quadratic: central differences are exact up to rounding of the loss, 1e-16 / h.
        assert slope == pytest.approx(float(x.grad[place]), abs=1e-11)
        seen = frames is None or bool(frames[place[0], place[2]])
        number = x.numel() if frames is None else int(frames.sum()) * x[0, :, 0].numel()
        wanted = float(gradient[place]) / number if seen else 0.0
        assert float(x.grad[place]) == pytest.approx(wanted, abs=1e-12)


def test_identical_scores_leave_the_sample_alone_even_where_the_teacher_agrees() -> None:
    """0 / 0 would poison all weights."""
    x = torch.randn(1, 2, 3, 2, 2)
    assert not matching_gradient(x, x, x).any()
