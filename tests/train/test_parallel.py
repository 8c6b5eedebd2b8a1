"""The clip in one pass against the served graphs, block by block."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from networks.dit import DiT
from networks.presets import Preset
from tests.support.served_dit import ServedStep, random_conditions, random_dit, tiny_preset
from train.network.batched_dit import Conditions
from train.network.parallel import velocities
from train.network.quick_layers import attend, gelu, rms_norm

TOLERANCE = 1e-5
"""float32 sums in another order over three layers, on velocities of size 1."""
NUM_BLOCKS = 6
TIMESTEPS = (857.7, 40.0)


def clips(preset: Preset) -> tuple[Tensor, Conditions]:
    c = preset.pipeline
    frames = NUM_BLOCKS * c.frames_per_block
    shape = (2, c.latent_channels, frames, c.latent_height, c.latent_width)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    return latents, random_conditions(preset, 2, NUM_BLOCKS)


def served(dit: DiT, preset: Preset, row: int, start: int, distance: int) -> Tensor:
    """The clip of row `row`, served from a stream whose blocks before `start` never were."""
    latents, conditions = clips(preset)
    config, frames = preset.pipeline, preset.pipeline.frames_per_block
    step = ServedStep(dit, config, TIMESTEPS[row])
    one = slice(row, row + 1)
    step.prefill(conditions.reference[one], conditions.motion[one], conditions.text[one])
    made = []
    for j in range(NUM_BLOCKS):
        latent = latents[one, :, j * frames : (j + 1) * frames]
        audio = conditions.audio[one, ..., 12 * j : 12 * (j + 1)]
        made.append(step(j, latent, audio, 1.0, distance, skipped=start) - latent)
    return torch.cat(made, 2)


@pytest.mark.parametrize("patch_size", [1, 2])
@pytest.mark.parametrize(("starts", "distance"), [((0, 0), 30), ((0, 3), 4), ((7, 100_000), 17)])
def test_a_clip_in_one_pass_equals_the_served_blocks(
    patch_size: int, starts: tuple[int, int], distance: int
) -> None:
    """The network would learn another function than the one that is served."""
    preset = tiny_preset(patch_size)
    dit = random_dit(preset.dit)
    latents, conditions = clips(preset)
    with torch.no_grad():
        made = velocities(
            dit,
            latents,
            torch.tensor(TIMESTEPS),
            conditions,
            starts=starts,
            sink_distance=distance,
            config=preset.pipeline,
        )
        for row, start in enumerate(starts):
            wanted = served(dit, preset, row, start, distance)
            assert 0.3 < wanted.std() < 10
            assert (made[row : row + 1] - wanted).abs().max() <= TOLERANCE


def test_gradients_reach_every_parameter() -> None:
    """A part of the network would stay as it was drawn."""
    preset = tiny_preset()
    dit = random_dit(preset.dit).requires_grad_(True)
    latents, conditions = clips(preset)
    timesteps = torch.tensor(TIMESTEPS)
    made = velocities(dit, latents, timesteps, conditions, starts=(0, 5), config=preset.pipeline)
    made.square().mean().backward()
    still = {name for name, p in dit.named_parameters() if p.grad is None or not p.grad.any()}
    # Without a pose, the pose's embedding is its bias.
    assert still == {"cond_encoder.weight"}


def test_gradients_equal_autograds_own() -> None:
    """Derivatives written by hand would lead training elsewhere."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        return x.requires_grad_(True)

    q, k, v = normal(2, 2, 3, 4), normal(2, 2, 5, 4), normal(2, 2, 5, 4)
    assert torch.autograd.gradcheck(attend, (q, k, v))
    assert torch.autograd.gradcheck(lambda x, w: rms_norm(x, w, 1e-6), (normal(3, 6), normal(6)))
    x = normal(7) * 2
    assert torch.autograd.gradcheck(gelu, (x,))
    wanted = torch.nn.functional.gelu(x, approximate="tanh")
    assert (gelu(x) - wanted).abs().max() <= 1e-9  # constants of 16 digits


def test_without_a_sink_reference_and_motion_are_not_seen() -> None:
    """A network trained to do without its sink would still have it."""
    preset = tiny_preset()
    dit, (latents, conditions) = random_dit(preset.dit), clips(preset)

    def made(shown: Conditions, sink: bool) -> Tensor:
        timesteps, config = torch.tensor(TIMESTEPS), preset.pipeline
        return velocities(dit, latents, timesteps, shown, starts=(0, 5), sink=sink, config=config)

    other = replace(conditions, reference=-conditions.reference, motion=-conditions.motion)
    with torch.no_grad():
        assert torch.equal(made(conditions, False), made(other, False))
        assert not torch.allclose(made(conditions, True), made(other, True))
