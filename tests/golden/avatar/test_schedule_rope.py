"""Schedule and RoPE tables against the release's numbers."""

import dataclasses

import numpy as np

from pipeline.avatar.rope_tables import RopeTables, sink_grid
from pipeline.denoising.positions import grid, tables
from pipeline.denoising.schedule import Schedule
from tests.golden.fixtures import load, manifest, max_abs, needs_golden, preset

pytestmark = needs_golden

HALF_ULP = 2**-11
"""Half the spacing of float16 numbers in 0.5..1: the fixtures' tables are rounded to float16."""


def test_sigmas_and_timesteps_equal_the_release_to_the_last_bit() -> None:
    """A timestep off by one bit finds no modulation vector in timesteps.safetensors."""
    for steps, wanted in manifest()["scheduler"].items():
        schedule = Schedule(int(steps))
        assert np.array_equal(schedule.sigmas, np.float32(wanted["sigmas"]))
        assert np.array_equal(schedule.timesteps, np.float32(wanted["timesteps"]))


def test_an_euler_step_gives_the_release_sample() -> None:
    """Sign or order of dsigma would be wrong."""
    data = load("scheduler")
    for i, dsigma in enumerate(Schedule(len(data["timesteps"])).dsigmas):
        stepped = data["sample"][i] + dsigma * data["velocity"][i]
        # float32 rounding of values of order 1.
        assert max_abs(stepped, data["prev_sample"][i]) <= 1e-6


def test_rope_tables_equal_the_release_after_rounding_to_half() -> None:
    """Axis split, angles, motion positions or the reference's position would be wrong."""
    data, config = load("rope"), preset().pipeline
    assert manifest()["rope"]
    for case in manifest()["rope"]:
        first, d = case["current_start_frame"], case["head_dim"]
        frames = tuple(range(first, first + config.frames_per_block))
        parts = {
            "current": grid(frames, config.token_grid),
            "sink": sink_grid(config, case["ref_position"]),
        }
        for part, positions in parts.items():
            got = np.stack(tables(positions, d, to_half=True), axis=-1)
            # One float16 step where the release's float32 angle falls on the other side.
            assert max_abs(got, data[f"{case['key']}_{part}"]) <= HALF_ULP, (case["key"], part)


def test_persistent_tables_equal_freshly_computed_ones() -> None:
    """An in-place update would touch the wrong rows or columns."""
    config = dataclasses.replace(preset().pipeline, round_rope_to_half=False)
    rope, size = RopeTables(config), config.frames_per_block
    starts = [(10 + slot) * size for slot in range(config.window_blocks)]
    starts = starts[1:] + starts[:1]  # a ring that has turned
    for slot, first in enumerate(starts):
        rope.write_block(slot, first)
    rope.place_reference(47)
    blocks = [grid(tuple(range(f, f + config.frames_per_block)), config.token_grid) for f in starts]
    wanted = tables(np.concatenate([sink_grid(config, 47), *blocks]), config.head_dim)
    assert np.array_equal(rope.cos_k[0], wanted[0])
    assert np.array_equal(rope.sin_k[0], wanted[1])
    assert rope.cos_k.shape == (1, config.cache_len, config.head_dim // 2)
