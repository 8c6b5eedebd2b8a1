"""Noise tables, sampler arithmetic, positions and sinusoids against the release."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from networks.layers import rotate, sinusoids
from networks.wan_sight import rope_tables
from pipeline.rolling_schedule import NoiseTable, add_noise, clean_of
from pipeline.rope import grid, tables
from tests.golden.fixtures import max_abs
from tests.golden.rolling_fixtures import Arrays, arrays, needs_rolling

pytestmark = needs_rolling

TOLERANCE = 1e-6
"""Of values up to 1; timesteps reach 1000 and have 1e-3."""


@pytest.fixture(scope="module")
def data() -> Arrays:
    return arrays("primitives", "primitives")


def shifts(data: Arrays) -> list[str]:
    found = [key.split(".")[0] for key in data if key.endswith(".sigmas") and key[:5] == "shift"]
    assert found
    return found


def test_noise_tables_equal_the_release_bit_for_bit(data: Arrays) -> None:
    """A last bit of a timestep moves the network's output by more than the tolerance."""
    for name in shifts(data):
        table = NoiseTable(float(name.removeprefix("shift")))
        assert np.array_equal(table.sigmas, data[f"{name}.sigmas"])
        assert np.array_equal(table.timesteps, data[f"{name}.timesteps"])
        for steps in ((1000, 750, 500, 250), (1000, 800, 600, 400, 200)):
            wanted = data[f"{name}.warped_{len(steps)}"]
            assert np.array_equal(table.shifted(steps), wanted)


def test_the_nearest_timestep_counts(data: Arrays) -> None:
    """Timesteps off the grid are looked up; 0 has the grid's lowest sigma."""
    for name in shifts(data):
        table = NoiseTable(float(name.removeprefix("shift")))
        sigmas = table.sigma_at(data[f"{name}.t"])
        assert max_abs(sigmas, data[f"{name}.sigma_at_t"]) <= TOLERANCE
        assert table.sigma_at(np.float32(0)) == table.sigmas[-1] > 0


def test_noise_is_added_and_removed_as_in_the_release(data: Arrays) -> None:
    """The sampler between two levels."""
    for name in shifts(data):
        of = {key.split(".")[1]: array for key, array in data.items() if key.startswith(name)}
        for i, sigma in enumerate(of["sigma_at_t"].tolist()):
            noisy = add_noise(of["x0"][i], of["noise"][i], sigma)
            assert max_abs(noisy, of["noisy"][i]) <= 4 * TOLERANCE
            got = clean_of(of["noisy"][i], of["flow"][i], sigma)
            assert max_abs(got, of["x0_from_flow"][i]) <= 4 * TOLERANCE


def test_the_teachers_euler_steps_equal_the_release(data: Arrays) -> None:
    """The deterministic sampler: 48 steps along given velocities."""
    of = {key.split(".")[1]: array for key, array in data.items() if key.startswith("ode48")}
    sigmas = np.append(of["sigmas"], np.float32(0))
    for i in range(len(of["flow"])):
        stepped = of["sample"][i] + (sigmas[i + 1] - sigmas[i]) * of["flow"][i]
        assert max_abs(stepped, of["stepped"][i]) <= 4 * TOLERANCE


def test_rope_tables_equal_the_release(data: Arrays) -> None:
    """Time, row and column take their own share of a head's channels."""
    for size in (32, 128):
        rows, cos, sin = (data[f"rope{size}.{name}"] for name in ("rows", "cos", "sin"))
        third = size // 2 // 3
        shares = [slice(0, size // 2 - 2 * third), slice(size // 2 - 2 * third, size // 2 - third)]
        shares.append(slice(size // 2 - third, size // 2))
        for axis, share in enumerate(shares):
            positions = np.zeros((len(rows), 3))
            positions[:, axis] = rows
            got = tables(positions, size)
            assert max_abs(got[0][:, share], cos[:, share]) <= TOLERANCE
            assert max_abs(got[1][:, share], sin[:, share]) <= TOLERANCE


@pytest.mark.parametrize("start", [0, 7, 600])
def test_rotation_equals_the_release_at_any_start(data: Arrays, start: int) -> None:
    """Both ways to compute a table: the server's in NumPy, training's in PyTorch."""
    x = torch.from_numpy(data["rope_apply.x"]).transpose(1, 2)  # [1, N, L, d]
    frames, shape = tuple(range(start, start + 3)), (2, 3)
    served = (torch.from_numpy(t)[None] for t in tables(grid(frames, shape), x.shape[-1]))
    trained = rope_tables(torch.tensor(frames), shape, x.shape[-1])
    for cos, sin in (served, trained):
        turned = rotate(x, cos, sin).transpose(1, 2)
        assert max_abs(turned, data[f"rope_apply.start{start}"]) <= 4 * TOLERANCE


def test_sinusoids_equal_the_release(data: Arrays) -> None:
    """What the time MLP is told."""
    for key in (k for k in data if k.startswith("time.sinusoid")):
        width = int(key.removeprefix("time.sinusoid"))
        got = sinusoids(torch.from_numpy(data["time.t"]), width)
        assert max_abs(got, data[key]) <= TOLERANCE
