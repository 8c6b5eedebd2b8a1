"""Flow-matching tables and conversions against the releases' numbers."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402
from torch import Tensor  # noqa: E402

from tests.golden.fixtures import GOLDEN_ROOT, max_abs  # noqa: E402
from train.flow import (  # noqa: E402
    FlowTable,
    add_noise,
    clean_from,
    euler_sigmas,
    exact_sigma,
    velocity_from,
)

PRIMITIVES = GOLDEN_ROOT / "rolling_forcing" / "primitives" / "primitives.safetensors"
pytestmark = pytest.mark.skipif(
    not PRIMITIVES.is_file(), reason=f"no fixtures at {PRIMITIVES}; set GOLDEN_ROOT"
)

TABLE, TIMESTEP = 1e-6, 1e-3
"""The README's: relative to sigma, weight; and for timesteps of up to 1000."""
LATENT = 2e-5


def data() -> dict[str, Tensor]:
    return load_file(PRIMITIVES)


def shifts() -> list[int]:
    if not PRIMITIVES.is_file():
        return []
    return sorted(int(k[5:].split(".")[0]) for k in data() if k.endswith(".training_weights"))


def latents(x: Tensor) -> Tensor:
    """Frames [N, C, h, w], each with a timestep of its own -> [N, C, 1, h, w]."""
    return x.unsqueeze(2)


@pytest.mark.parametrize("shift", shifts())
def test_tables_equal_the_release(shift: int) -> None:
    """Levels or weights of pre-training would be others; a last bit of a timestep shows."""
    table, wanted = FlowTable(shift), data()
    assert table.sigmas.equal(wanted[f"shift{shift}.sigmas"])
    assert table.timesteps.equal(wanted[f"shift{shift}.timesteps"])
    weights = wanted[f"shift{shift}.training_weights"]
    assert max_abs(table.training_weights, weights) <= TABLE * float(weights.max())


@pytest.mark.parametrize("shift", shifts())
def test_denoising_lists_are_warped_as_in_the_release(shift: int) -> None:
    """Roll-outs would run at other levels."""
    wanted = data()
    for name in (k for k in wanted if k.startswith(f"shift{shift}.warped_")):
        count = int(name.split("_")[1])
        levels = tuple(1000 - 1000 // count * i for i in range(count))
        got = FlowTable(shift).warped(levels)
        assert max_abs(got, wanted[name]) <= TIMESTEP, name


@pytest.mark.parametrize("shift", shifts())
def test_off_grid_timesteps_take_the_nearest_entry(shift: int) -> None:
    """An interpolating or flooring look-up would add another amount of noise."""
    table, wanted = FlowTable(shift), data()
    t = wanted[f"shift{shift}.t"]
    assert max_abs(table.sigma(t), wanted[f"shift{shift}.sigma_at_t"]) <= TABLE
    weight = wanted[f"shift{shift}.training_weight_at_t"]
    assert max_abs(table.training_weight(t), weight) <= TABLE * float(weight.max())
    assert max_abs(table.sigma(t), exact_sigma(t)) > TABLE, "no timestep lies off the grid"


@pytest.mark.parametrize("shift", shifts())
def test_noise_and_conversions_equal_the_release(shift: int) -> None:
    """Sign or scale of the velocity would be wrong."""
    wanted, sigma = data(), FlowTable(shift).sigma(data()[f"shift{shift}.t"])
    of = {k.split(".")[1]: latents(v) for k, v in wanted.items() if k.startswith(f"shift{shift}.")
          and v.dim() == 4}  # fmt: skip
    noisy = add_noise(of["x0"], of["noise"], sigma)
    assert max_abs(noisy, of["noisy"]) <= LATENT
    assert max_abs(clean_from(of["noisy"], of["flow"], sigma), of["x0_from_flow"]) <= LATENT
    # A quotient: an error of the numerator grows by 1 / sigma.
    velocity = velocity_from(of["noisy"], of["x0_from_flow"], sigma)
    error = (velocity - of["flow_from_x0"]).abs().amax((1, 2, 3, 4)) * sigma
    assert float(error.max()) <= LATENT


def test_the_teachers_euler_steps_equal_the_release() -> None:
    """Trajectories for the regression would be another teacher's."""
    wanted = data()
    levels = wanted["ode48.sigmas"]
    sigmas = euler_sigmas(len(levels), 8.0)
    assert max_abs(sigmas[:-1], levels) <= TABLE
    assert max_abs(1000 * sigmas[:-1], wanted["ode48.timesteps"]) <= TIMESTEP
    steps = sigmas.diff()[:, None, None, None]
    stepped = wanted["ode48.sample"] + steps * wanted["ode48.flow"]
    assert max_abs(stepped, wanted["ode48.stepped"]) <= LATENT
