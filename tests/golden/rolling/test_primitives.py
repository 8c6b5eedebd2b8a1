"""Noise tables, sampler arithmetic, positions and sinusoids against the release."""

import re

import numpy as np
import pytest
import torch

from networks.causal_wan import rope_tables
from networks.layers import rotate, sinusoids
from pipeline.denoising.positions import grid, tables
from pipeline.denoising.schedule import NoiseTable, add_noise, clean_of
from tests.golden.fixtures import keys_like, max_abs, numbered
from tests.golden.rolling.fixtures import Arrays, arrays, needs_rolling

pytestmark = needs_rolling

TOLERANCE = 1e-6
"""Of values up to 1; timesteps reach 1000 and have 1e-3."""


@pytest.fixture(scope="module")
def data() -> Arrays:
    return arrays("primitives", "primitives")


def shifts(data: Arrays) -> list[str]:
    """Names of the tables, "shift5" or "shift2.5"."""
    found = [match[1] for key in data if (match := re.fullmatch(r"(shift[\d.]+)\.sigmas", key))]
    assert found
    return found


def named(data: Arrays, name: str) -> Arrays:
    """What begins with `name`, without it."""
    return {k.removeprefix(f"{name}."): v for k, v in data.items() if k.startswith(f"{name}.")}


def test_noise_tables_equal_the_release_bit_for_bit(data: Arrays) -> None:
    """A last bit of a timestep moves the network's output by more than the tolerance."""
    for name in shifts(data):
        table = NoiseTable(float(name.removeprefix("shift")))
        assert np.array_equal(table.sigmas, data[f"{name}.sigmas"])
        assert np.array_equal(table.timesteps, data[f"{name}.timesteps"])
        for count, key in numbered(named(data, name), r"warped_(\d+)").items():
            steps = tuple(1000 - 1000 // count * i for i in range(count))
            assert np.array_equal(table.shifted(steps), data[f"{name}.{key}"])


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
        of = named(data, name)
        for i, sigma in enumerate(of["sigma_at_t"].tolist()):
            noisy = add_noise(of["x0"][i], of["noise"][i], sigma)
            assert max_abs(noisy, of["noisy"][i]) <= 4 * TOLERANCE
            got = clean_of(of["noisy"][i], of["flow"][i], sigma)
            assert max_abs(got, of["x0_from_flow"][i]) <= 4 * TOLERANCE


def test_the_teachers_euler_steps_equal_the_release(data: Arrays) -> None:
    """The deterministic sampler: many steps along given velocities."""
    for key in keys_like(data, r"ode\d+\.flow"):
        of = named(data, key.removesuffix(".flow"))
        sigmas = np.append(of["sigmas"], np.float32(0))
        for i in range(len(of["flow"])):
            stepped = of["sample"][i] + (sigmas[i + 1] - sigmas[i]) * of["flow"][i]
            assert max_abs(stepped, of["stepped"][i]) <= 4 * TOLERANCE, key


def test_rope_tables_equal_the_release(data: Arrays) -> None:
    """Time, row and column take their own share of a head's channels."""
    sizes = numbered(data, r"rope(\d+)\.rows")
    assert sizes
    for size in sizes:
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


def rotated(data: Arrays, start: int, frames: int, shape: tuple[int, int]) -> list[torch.Tensor]:
    """Both ways to compute a table: the server's in NumPy, training's in PyTorch."""
    x = torch.from_numpy(data["rope_apply.x"]).transpose(1, 2)  # [1, N, L, d]
    places = tuple(range(start, start + frames))
    served = (torch.from_numpy(t)[None] for t in tables(grid(places, shape), x.shape[-1]))
    trained = rope_tables(torch.tensor(places), shape, x.shape[-1])
    return [rotate(x, cos, sin).transpose(1, 2) for cos, sin in (served, trained)]


def test_rotation_equals_the_release_at_any_start(data: Arrays) -> None:
    """The fixtures do not say which grid their tokens lie on: one grid must fit all starts."""
    starts, tokens = numbered(data, r"rope_apply\.start(\d+)"), data["rope_apply.x"].shape[1]
    assert starts
    errors = {}
    for frames in range(1, tokens + 1):
        for rows in range(1, tokens // frames + 1):
            columns = tokens // (frames * rows)
            if frames * rows * columns == tokens:
                errors[frames, rows, columns] = max(
                    max_abs(turned, data[key])
                    for start, key in starts.items()
                    for turned in rotated(data, start, frames, (rows, columns))
                )
    assert min(errors.values()) <= 4 * TOLERANCE, errors


def test_sinusoids_equal_the_release(data: Arrays) -> None:
    """What the time MLP is told."""
    widths = numbered(data, r"time\.sinusoid(\d+)")
    assert widths
    for width, key in widths.items():
        got = sinusoids(torch.from_numpy(data["time.t"]), width)
        assert max_abs(got, data[key]) <= TOLERANCE
