"""Streams rolled out in torch against the served graphs, and what training needs of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from networks.dit import DiT
from networks.presets import Preset
from pipeline.denoising.noise import block_noise
from pipeline.denoising.schedule import Schedule
from tests.support.served_dit import ServedStep, random_conditions, random_dit, tiny_preset
from train.network.batched_dit import Conditions
from train.network.stream import RolloutOptions, stream

TOLERANCE = 1e-5
"""float32 sums in another order, over three layers and four steps, on latents of size 1."""
NUM_BLOCKS = 6


def noise_of(preset: Preset, batch: int, num_blocks: int = NUM_BLOCKS) -> Tensor:
    _, channels, frames, *picture = preset.pipeline.latent_shape
    shape = (batch, channels, num_blocks * frames, *picture)
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def rows(conditions: Conditions, chosen: slice) -> Conditions:
    return conditions.rows(chosen)


def rolled(dit: DiT, preset: Preset, conditions: Conditions, noise: Tensor, **options) -> Tensor:
    made = stream(dit, conditions, RolloutOptions(**options), noise, config=preset.pipeline)
    return torch.cat(list(made), 2)


def served(
    dit: DiT, preset: Preset, conditions: Conditions, noise: Tensor, steps: int, distance: int
) -> Tensor:
    """One stream as it is served: a cache per step, the sink re-calibrated."""
    config, schedule = preset.pipeline, Schedule(steps, preset.pipeline.shift)
    stages = [ServedStep(dit, config, float(t)) for t in schedule.timesteps]
    reference, made = conditions.reference, []
    for block, latent in enumerate(noise.split(config.frames_per_block, 2)):
        if block == config.recalibrate_block:
            reference = made[0][:, :, :1]
        for stage, dsigma in zip(stages, schedule.dsigmas, strict=True):
            if block in (0, config.recalibrate_block):
                stage.prefill(reference, conditions.motion, conditions.text)
            audio = conditions.audio[..., 12 * block : 12 * (block + 1)]
            latent = stage(block, latent, audio, float(dsigma), distance)
        made.append(latent)
    return torch.cat(made, 2)


@pytest.mark.parametrize(("patch_size", "steps", "distance"), [(1, 4, 30), (2, 2, 4)])
def test_a_rollout_equals_the_served_streams(patch_size: int, steps: int, distance: int) -> None:
    """Evaluation and Self-Forcing would see another model than the server's."""
    preset = tiny_preset(patch_size)
    dit, noise = random_dit(preset.dit), noise_of(preset, 2)
    conditions = random_conditions(preset, 2, NUM_BLOCKS)
    with torch.no_grad():
        made = rolled(dit, preset, conditions, noise, num_steps=steps, sink_distance=distance)
        for row in (slice(0, 1), slice(1, 2)):
            wanted = served(dit, preset, rows(conditions, row), noise[row], steps, distance)
            assert 0.3 < wanted.std() < 30
            assert (made[row] - wanted).abs().max() <= TOLERANCE * wanted.abs().max()


def served_clean(dit: DiT, preset: Preset, conditions: Conditions, noise: Tensor) -> Tensor:
    """One stream whose steps all read the cache of finished blocks, written at timestep 0."""
    config, schedule = preset.pipeline, Schedule(2, preset.pipeline.shift)
    finished = ServedStep(dit, config, 0.0)
    finished.prefill(conditions.reference, conditions.motion, conditions.text)
    made = []
    for block, latent in enumerate(noise.split(config.frames_per_block, 2)):
        audio = conditions.audio[..., 12 * block : 12 * (block + 1)]
        for t, dsigma in zip(schedule.timesteps, schedule.dsigmas, strict=True):
            step = ServedStep(dit, config, float(t))
            step.layers, step.tables = dict(finished.layers), finished.tables
            latent = step(block, latent, audio, float(dsigma), 30)
        finished(block, latent, audio, 0.0, 30)
        made.append(latent)
    return torch.cat(made, 2)


def test_clean_history_is_what_finished_blocks_leave() -> None:
    """Self-Forcing would train on another history than the one it describes."""
    preset = tiny_preset()
    dit, noise = random_dit(preset.dit), noise_of(preset, 1)
    conditions = random_conditions(preset, 1, NUM_BLOCKS)
    with torch.no_grad():
        wanted = served_clean(dit, preset, conditions, noise)
        made = rolled(
            dit, preset, conditions, noise, num_steps=2, history="clean", recalibrate=False
        )
    assert (made - wanted).abs().max() <= TOLERANCE * wanted.abs().max()


def test_a_gradient_runs_through_a_blocks_last_step_alone() -> None:
    """Memory and time would grow with the stream, or nothing would be learned."""
    preset = tiny_preset()
    dit = random_dit(preset.dit).requires_grad_(True)
    noise = noise_of(preset, 1, 2).requires_grad_(True)
    conditions = random_conditions(preset, 1, 2)
    options = RolloutOptions(exit_step=1)
    blocks = list(stream(dit, conditions, options, noise, config=preset.pipeline))
    loss = blocks[1].square().mean()
    (of_noise,) = torch.autograd.grad(loss, noise, retain_graph=True, allow_unused=True)
    assert of_noise is None or not of_noise.any()
    of_first = torch.autograd.grad(
        loss, dit.blocks[0].self_attn.k.weight, retain_graph=True, allow_unused=True
    )
    assert of_first[0].any()
    loss.backward()
    (blocks[0].square().mean()).backward()  # an own graph: the first one is freed


def test_an_exit_returns_the_clean_latent_that_the_step_points_to() -> None:
    """Self-Forcing would be supervised on latents that still hold noise."""
    preset = tiny_preset()
    dit, noise = random_dit(preset.dit), noise_of(preset, 1, 1)
    conditions = random_conditions(preset, 1, 1)
    with torch.no_grad():
        at_once = rolled(dit, preset, conditions, noise, exit_step=0)
        one_step = rolled(dit, preset, conditions, noise, num_steps=1)
        through = rolled(dit, preset, conditions, noise, exit_step=3)
        whole = rolled(dit, preset, conditions, noise)
    assert torch.equal(at_once, one_step)
    assert torch.equal(through, whole)  # the last step ends at 0 anyway


def test_guidance_adds_to_what_the_sound_changes() -> None:
    """Stronger guidance would blur instead of moving the mouth more."""
    preset = tiny_preset()
    dit, noise = random_dit(preset.dit), noise_of(preset, 1, 1)
    spoken = random_conditions(preset, 1, 1)
    silent = replace(spoken, audio=torch.zeros_like(spoken.audio))
    with torch.no_grad():
        with_sound, without = (rolled(dit, preset, c, noise, num_steps=1) for c in (spoken, silent))
        guided = rolled(dit, preset, spoken, noise, num_steps=1, guidance=3.0)
    wanted = without + 3 * (with_sound - without)
    assert (guided - wanted).abs().max() <= TOLERANCE * wanted.abs().max()


def test_a_window_of_one_block_and_no_sink_make_blocks_alone() -> None:
    """An ablation would still see what it is said not to see."""
    preset = tiny_preset()
    dit, noise = random_dit(preset.dit), noise_of(preset, 1, 2)
    conditions = random_conditions(preset, 1, 2)
    alone = {"window_blocks": 1, "sink": False, "num_steps": 1}
    frames = preset.pipeline.frames_per_block
    with torch.no_grad():
        made = rolled(dit, preset, conditions, noise, **alone)
        swapped = torch.cat([-noise[:, :, :frames], noise[:, :, frames:]], 2)
        other = rolled(dit, preset, conditions, swapped, **alone)
    assert torch.equal(made[:, :, frames:], other[:, :, frames:])


def test_a_forgotten_sink_changes_later_blocks_only() -> None:
    """The ablation would hide the face from the start, or never."""
    preset = tiny_preset()
    dit, frames = random_dit(preset.dit), preset.pipeline.frames_per_block
    conditions, noise = random_conditions(preset, 1, 3), noise_of(preset, 1, 3)
    with torch.no_grad():
        kept = rolled(dit, preset, conditions, noise)
        forgotten = rolled(dit, preset, conditions, noise, sink_blocks=2)
    assert torch.equal(kept[:, :, : 2 * frames], forgotten[:, :, : 2 * frames])
    assert not torch.allclose(kept[:, :, 2 * frames :], forgotten[:, :, 2 * frames :], atol=1e-3)


def test_a_seed_gives_each_row_the_served_noise() -> None:
    """A torch stream and a served one of the same seed would not compare."""
    preset = tiny_preset()
    dit, conditions = random_dit(preset.dit), random_conditions(preset, 2, 2)
    shape = preset.pipeline.latent_shape
    noise = np.concatenate(
        [np.concatenate([block_noise(7 + r, b, shape) for b in range(2)], 2) for r in range(2)]
    )
    with torch.no_grad():
        by_seed = stream(dit, conditions, noise=[7, 8], config=preset.pipeline)
        given = stream(dit, conditions, noise=torch.from_numpy(noise), config=preset.pipeline)
        for one, other in zip(by_seed, given, strict=True):
            assert torch.equal(one, other)


def test_forty_steps_stay_finite() -> None:
    """The teacher's schedule has no stored modulation."""
    preset = tiny_preset()
    dit = random_dit(preset.dit)
    dit.head.head.weight *= 0.01
    conditions = random_conditions(preset, 1, 2)
    noise = noise_of(preset, 1, 2)
    with torch.no_grad():
        made = rolled(dit, preset, conditions, noise, num_steps=40)
    assert made.shape == noise.shape
    assert made.isfinite().all()


def test_options_that_cannot_be_meant_are_refused() -> None:
    """A misspelt history would be another experiment."""
    for wrong in ({"history": "own"}, {"window_blocks": 0}, {"exit_step": 4}, {"sink_blocks": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            RolloutOptions(**wrong)
