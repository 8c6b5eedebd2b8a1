"""Flow-matching tables and conversions against the releases' numbers."""

import re

import pytest
from safetensors.torch import load_file
from torch import Tensor

from tests.golden.fixtures import GOLDEN_ROOT, keys_like, max_abs
from tests.golden.train.flow_table import FlowTable, euler_sigmas, velocity_from
from train.network.flow import add_noise, clean_from, exact_sigma

PRIMITIVES = GOLDEN_ROOT / "rolling_forcing" / "primitives" / "primitives.safetensors"
pytestmark = pytest.mark.skipif(
    not PRIMITIVES.is_file(), reason=f"no fixtures at {PRIMITIVES}; set GOLDEN_ROOT"
)

TABLE, TIMESTEP = 1e-6, 1e-3
"""The README's: relative to sigma, weight; and for timesteps of up to 1000."""
LATENT = 2e-5


def data() -> dict[str, Tensor]:
    return load_file(PRIMITIVES)


def shifts() -> list[float]:
    """Of the tables; as they are spelt in their names: 5, or 2.5."""
    if not PRIMITIVES.is_file():
        return []
    found = [re.fullmatch(r"shift([\d.]+)\.training_weights", key) for key in data()]
    return sorted(float(m[1]) if "." in m[1] else int(m[1]) for m in found if m)


def of_shift(shift: float) -> dict[str, Tensor]:
    """The tensors of one table, by the end of their names."""
    prefix = f"shift{shift}."
    return {k.removeprefix(prefix): v for k, v in data().items() if k.startswith(prefix)}


def test_the_fixtures_hold_tables() -> None:
    """Everything below would pass without a number compared."""
    assert shifts()


def latents(x: Tensor) -> Tensor:
    """Frames [N, C, h, w], each with a timestep of its own -> [N, C, 1, h, w]."""
    return x.unsqueeze(2)


@pytest.mark.parametrize("shift", shifts())
def test_tables_equal_the_release(shift: float) -> None:
    """Levels or weights of pre-training would be others; a last bit of a timestep shows."""
    table, wanted = FlowTable(shift), data()
    assert table.sigmas.equal(wanted[f"shift{shift}.sigmas"])
    assert table.timesteps.equal(wanted[f"shift{shift}.timesteps"])
    weights = wanted[f"shift{shift}.training_weights"]
    assert max_abs(table.training_weights, weights) <= TABLE * float(weights.max())


@pytest.mark.parametrize("shift", shifts())
def test_denoising_lists_are_warped_as_in_the_release(shift: float) -> None:
    """Roll-outs would run at other levels."""
    wanted = data()
    for name in (f"shift{shift}.{k}" for k in of_shift(shift) if k.startswith("warped_")):
        count = int(name.rpartition("_")[2])
        levels = tuple(1000 - 1000 // count * i for i in range(count))
        got = FlowTable(shift).warped(levels)
        assert max_abs(got, wanted[name]) <= TIMESTEP, name


@pytest.mark.parametrize("shift", shifts())
def test_off_grid_timesteps_take_the_nearest_entry(shift: float) -> None:
    """An interpolating or flooring look-up would add another amount of noise."""
    table, wanted = FlowTable(shift), data()
    t = wanted[f"shift{shift}.t"]
    assert max_abs(table.sigma(t), wanted[f"shift{shift}.sigma_at_t"]) <= TABLE
    weight = wanted[f"shift{shift}.training_weight_at_t"]
    assert max_abs(table.training_weight(t), weight) <= TABLE * float(weight.max())
    assert max_abs(table.sigma(t), exact_sigma(t)) > TABLE, "no timestep lies off the grid"


@pytest.mark.parametrize("shift", shifts())
def test_noise_and_conversions_equal_the_release(shift: float) -> None:
    """Sign or scale of the velocity would be wrong."""
    sigma = FlowTable(shift).sigma(data()[f"shift{shift}.t"])
    of = {k: latents(v) for k, v in of_shift(shift).items() if v.dim() == 4}
    noisy = add_noise(of["x0"], of["noise"], sigma)
    assert max_abs(noisy, of["noisy"]) <= LATENT
    assert max_abs(clean_from(of["noisy"], of["flow"], sigma), of["x0_from_flow"]) <= LATENT
    # A quotient: an error of the numerator grows by 1 / sigma.
    velocity = velocity_from(of["noisy"], of["x0_from_flow"], sigma)
    error = (velocity - of["flow_from_x0"]).abs().amax((1, 2, 3, 4)) * sigma
    assert float(error.max()) <= LATENT


def test_the_teachers_euler_steps_equal_the_release() -> None:
    """Trajectories for the regression would be another teacher's."""
    for key in keys_like(data(), r"ode\d+\.sigmas"):
        check_euler_steps(key.removesuffix("sigmas"))


def check_euler_steps(prefix: str) -> None:
    wanted = {k.removeprefix(prefix): v for k, v in data().items() if k.startswith(prefix)}
    levels = wanted["sigmas"].double()
    # The fixtures do not say by how much: sigma = s u / (1 + (s - 1) u) at u half way down.
    middle = len(levels) // 2
    u, sigma = 1 - middle / len(levels), float(levels[middle])
    sigmas = euler_sigmas(len(levels), round(sigma * (1 - u) / (u * (1 - sigma)), 3))
    assert max_abs(sigmas[:-1], levels) <= TABLE
    assert max_abs(1000 * sigmas[:-1], wanted["timesteps"]) <= TIMESTEP
    steps = sigmas.diff()[:, None, None, None]
    stepped = wanted["sample"] + steps * wanted["flow"]
    assert max_abs(stepped, wanted["stepped"]) <= LATENT
