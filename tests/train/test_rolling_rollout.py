"""The avatar with Rolling Forcing's joint window, against the served layers and its schedule."""

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from networks.presets import Preset
from pipeline.config.avatar import PipelineConfig
from pipeline.denoising.noise import block_noise
from pipeline.denoising.schedule import Schedule
from tests.support.joint_window import joint_stream
from tests.support.served_dit import random_conditions, random_dit, tiny_preset
from tests.train.test_rollout import noise_of, rolled, rows
from train.distill.rollout import Scene, Surroundings, Windows, rolling_rollout, rollout
from train.network.batched_dit import Conditions
from train.network.stream import RolloutOptions, stream
from train.network.stream_network import StreamNetwork

ROLLING: dict[str, Any] = {"schedule": "rolling", "history": "clean"}
ROUNDING = 4e-5
"""Of latents of size 1: float32 sums in another order, over seven passes and the ten blocks that
read each other. A block's position, sound, sink or history taken for another's gives 6e-4 to 2e-1.
"""
NUM_BLOCKS = 10
"""So many that the oldest clean block leaves the span before the window shrinks."""


@pytest.fixture(scope="module")
def preset() -> Preset:
    return tiny_preset()


@pytest.fixture(autouse=True)
def constants() -> Iterator[None]:
    with torch.no_grad():
        yield


def blocks_of(preset: Preset, latents: Tensor) -> list[Tensor]:
    return list(latents.split(preset.pipeline.frames_per_block, 2))


@pytest.mark.parametrize("patch_size", [1, 2])
def test_the_window_equals_one_made_of_the_served_layers(patch_size: int) -> None:
    """Timesteps, sound, positions, sink or history of a block would be another's."""
    preset = tiny_preset(patch_size)
    dit, noise = random_dit(preset.dit), noise_of(preset, 2, NUM_BLOCKS)
    conditions = random_conditions(preset, 2, NUM_BLOCKS)
    made = rolled(dit, preset, conditions, noise, **ROLLING)
    for row in (slice(0, 1), slice(1, 2)):
        wanted = joint_stream(dit, preset.pipeline, rows(conditions, row), noise[row])
        assert 0.3 < wanted.std() < 30
        assert (made[row] - wanted).abs().max() <= ROUNDING * wanted.abs().max()


def test_a_window_of_one_block_is_the_sequential_rollout(preset: Preset) -> None:
    """The two schedules would differ in more than the window."""
    dit, noise = random_dit(preset.dit), noise_of(preset, 2, NUM_BLOCKS)
    conditions = random_conditions(preset, 2, NUM_BLOCKS)
    alone = {"num_steps": 1, "history": "clean"}
    window = rolled(dit, preset, conditions, noise, schedule="rolling", **alone)
    assert torch.equal(window, rolled(dit, preset, conditions, noise, **alone))


@pytest.mark.parametrize("num_blocks", [1, 2, 3, 4, 9])
def test_blocks_pass_the_served_levels_on_the_diagonal(
    preset: Preset, num_blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block would skip a level, or a clean pass would run whose K and V nobody reads."""
    calls: list[tuple[list[int], list[float]]] = []

    def velocity(
        network: StreamNetwork, blocks: range, latents: Tensor, timesteps: Tensor, past: Any
    ) -> tuple[Tensor, list[Any]]:
        calls.append((list(blocks), timesteps.tolist()))
        return latents, []

    monkeypatch.setattr(StreamNetwork, "velocity", velocity)
    conditions = random_conditions(preset, 1, num_blocks)
    noise = noise_of(preset, 1, num_blocks)
    rolled(random_dit(preset.dit), preset, conditions, noise, **ROLLING)
    times = Schedule(4, preset.pipeline.shift).timesteps.tolist()
    windows = [call for call in calls if call[1] != [0.0]]
    assert [blocks for blocks, given in calls if given == [0.0]] == [
        [block] for block in range(num_blocks - 1)
    ]
    assert windows == [
        ([b for b in range(num_blocks) if 0 <= tick - b < 4],
         [times[tick - b] for b in range(num_blocks) if 0 <= tick - b < 4])
        for tick in range(num_blocks + 3)
    ]  # fmt: skip


@pytest.mark.parametrize("length", [4, 5, 8])
def test_more_sound_never_changes_earlier_blocks(preset: Preset, length: int) -> None:
    """A block would hear what has not been said when it leaves: no live stream could be rolled."""
    dit, noise = random_dit(preset.dit), noise_of(preset, 1, NUM_BLOCKS)
    conditions = random_conditions(preset, 1, NUM_BLOCKS)
    sound = preset.pipeline.video_frames_per_block * length
    short = Conditions(
        reference=conditions.reference, motion=conditions.motion, text=conditions.text,
        audio=conditions.audio[..., :sound],
    )  # fmt: skip
    whole = blocks_of(preset, rolled(dit, preset, conditions, noise, **ROLLING))
    begun = blocks_of(preset, rolled(dit, preset, short, noise, **ROLLING))
    kept = length - 3  # the last ones are made in a window that shrinks
    for one, other in zip(whole[:kept], begun[:kept], strict=True):
        assert torch.equal(one, other)
    assert not torch.allclose(whole[length - 1], begun[length - 1], atol=1e-3)


def test_a_block_sees_the_noisier_ones_behind_it(preset: Preset) -> None:
    """A causal window is timestep forcing on one device, not Rolling Forcing."""
    dit, noise = random_dit(preset.dit), noise_of(preset, 1, 4)
    conditions, frames = random_conditions(preset, 1, 4), preset.pipeline.frames_per_block
    changed = torch.cat([noise[:, :, :frames], -noise[:, :, frames:]], 2)
    first, other = (
        blocks_of(preset, rolled(dit, preset, conditions, n, **ROLLING))[0]
        for n in (noise, changed)
    )
    assert not torch.allclose(first, other, atol=1e-3)
    alone, same = (
        blocks_of(preset, rolled(dit, preset, conditions, n, history="clean"))[0]
        for n in (noise, changed)
    )
    assert torch.equal(alone, same)


@pytest.mark.parametrize("way", [{"history": "own level"}, {"history": "clean"}, ROLLING])
def test_fresh_noise_is_added_to_the_prediction(
    preset: Preset, way: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`renoise` would be another sampler than Rolling Forcing's, or draw the same noise twice."""
    monkeypatch.setattr(StreamNetwork, "velocity", lambda _, b, latents, *rest: (0.3 * latents, []))
    config, seeds = preset.pipeline, [5, 9]
    conditions = random_conditions(preset, 2, 3)
    options = RolloutOptions(num_steps=3, sampler="renoise", **way)
    dit = random_dit(preset.dit)
    made = list(stream(dit, conditions, options, seeds, config=config))
    sigmas = Schedule(3, config.shift).sigmas.tolist()
    for block, latents in enumerate(made):
        for seed, latent in zip(seeds, latents, strict=True):
            assert torch.allclose(latent, by_hand(config, seed, block, sigmas), atol=1e-6)
    with pytest.raises(ValueError, match="1 seeds, wanted one for each of 2"):
        stream(dit, conditions, options, seeds[:1], config=config)
    with pytest.raises(ValueError, match="wanted seeds"):
        stream(dit, conditions, options, noise_of(preset, 2, 3), config=config)


def by_hand(config: PipelineConfig, seed: int, block: int, sigmas: list[float]) -> Tensor:
    """A block under a network whose velocity is 0.3 times the latent."""
    draw = [torch.from_numpy(block_noise(seed, block, config.latent_shape, i))[0] for i in range(3)]
    latent = draw[0]
    for level in range(3):
        clean = latent - sigmas[level] * 0.3 * latent
        if level == 2:
            return clean
        latent = (1 - sigmas[level + 1]) * clean + sigmas[level + 1] * draw[level + 1]
    raise AssertionError


def test_memory_does_not_grow(preset: Preset) -> None:
    """A long evaluation would keep the K and V of every block."""
    dit = random_dit(preset.dit)
    conditions = random_conditions(preset, 1, 16)
    made = stream(dit, conditions, RolloutOptions(**ROLLING), config=preset.pipeline)
    kept = []
    for _ in made:
        streams = made.gi_frame.f_locals["self"]
        kept.append((len(streams.cache), len(streams.in_flight)))
    # A span of three blocks before a window of four; those in flight, and the one just finished.
    assert kept[8:12] == [(7, 4)] * 4
    assert max(kept) == (7, 4)


def test_a_rolling_window_wants_clean_history() -> None:
    """It would be asked for in vain: a cache for every level has no place in a joint window."""
    with pytest.raises(ValueError, match="clean"):
        RolloutOptions(schedule="rolling")
    for wrong in ({"schedule": "diagonal"}, {"sampler": "ddim"}, {"num_steps": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            RolloutOptions(**wrong)  # type: ignore[arg-type]


def test_every_block_learns_once_at_the_level_of_its_window(preset: Preset) -> None:
    """The student would practise another stream than the joint window's, or on another's error."""
    config = preset.pipeline
    dit, noise = random_dit(preset.dit).requires_grad_(True), noise_of(preset, 2, 7)
    conditions, around = random_conditions(preset, 2, 7), Surroundings(config=config)
    streamed = blocks_of(preset, rolled(dit, preset, conditions, noise, **ROLLING))
    for offset in range(4):
        given = noise.clone().requires_grad_(True)
        with torch.enable_grad():
            made = learned(dit, conditions, around, given, offset)
            made.square().mean().backward()
        assert given.grad is not None
        moved = [block.any().item() for block in blocks_of(preset, given.grad)]
        assert moved == [b % 4 == offset for b in range(7)], "levels but the window's are constant"
        finished = [b for b in range(7) if (offset - b) % 4 == 3]
        for block in finished:
            wanted = streamed[block]
            away = blocks_of(preset, made)[block] - wanted
            assert away.abs().max() <= ROUNDING * wanted.abs().max()
    gradients = [p.grad.abs().max() for p in dit.parameters() if p.grad is not None]
    assert max(gradients) > 1e-4


@pytest.mark.parametrize("starts", [(0, 0), (0, 900), (3, 1200)])
@pytest.mark.parametrize("level", range(4))
def test_a_window_of_one_block_is_timestep_forcing_wherever_it_begins(
    preset: Preset, level: int, starts: tuple[int, int]
) -> None:
    """Positions of block or sink, a level's noise share or its prediction would be another's."""
    dit, noise = random_dit(preset.dit), noise_of(preset, 2, 1)
    conditions, around = random_conditions(preset, 2, 1), Surroundings(config=preset.pipeline)
    scene = Scene(conditions=conditions, starts=starts)
    wanted = rollout(dit, scene, around, torch.Generator(), noise, level)
    made = learned(dit, conditions, around, noise, level, starts)
    assert (made - wanted).abs().max() <= ROUNDING * wanted.abs().max()


@pytest.mark.parametrize(("sink", "recalibrate"), [(False, True), (True, False)])
def test_a_rolled_clip_has_the_sink_that_was_asked_for(
    preset: Preset, sink: bool, recalibrate: bool
) -> None:
    """An ablation would train with the sink that it is to do without."""
    dit, noise = random_dit(preset.dit), noise_of(preset, 2, 7)
    conditions = random_conditions(preset, 2, 7)
    options = {"sink": sink, "recalibrate": recalibrate}
    streamed = rolled(dit, preset, conditions, noise, **ROLLING, **options)
    around = Surroundings(config=preset.pipeline, sink=sink)
    made = learned(dit, conditions, around, noise, 1, recalibrate=recalibrate)
    last, wanted = (blocks_of(preset, x)[6] for x in (made, streamed))  # at its last level
    assert (last - wanted).abs().max() <= ROUNDING * wanted.abs().max()
    served = blocks_of(preset, rolled(dit, preset, conditions, noise, **ROLLING))[6]
    assert (served - wanted).abs().max() > 1e-3


def test_a_clip_of_the_joint_window_may_begin_anywhere(preset: Preset) -> None:
    """Streams would practise their first seconds alone: later ones see the motion further back."""
    dit, noise = random_dit(preset.dit), noise_of(preset, 2, 5)
    conditions, around = random_conditions(preset, 2, 5), Surroundings(config=preset.pipeline)
    far = learned(dit, conditions, around, noise, 1, starts=(0, 900))
    near = learned(dit, conditions, around, noise, 1)
    assert torch.allclose(far[0], near[0], atol=1e-5)
    assert not torch.allclose(far[1], near[1], atol=1e-3)


def test_corrupted_clean_history_changes_what_reads_it(preset: Preset) -> None:
    """The window would be corrupted as well, or history stay as it is."""
    dit, noise = random_dit(preset.dit), noise_of(preset, 1, 6)
    conditions = random_conditions(preset, 1, 6)
    clean, slightly, noisy = (
        learned(dit, conditions, Surroundings(config=preset.pipeline, corruption=c), noise, 0)
        for c in (0.0, 0.1, 1.0)
    )
    assert (slightly - clean).abs().mean() < 0.3 * (noisy - clean).abs().mean()
    changed = [
        (a - b).abs().max()
        for a, b in zip(*map(partial(blocks_of, preset), (clean, noisy)), strict=True)
    ]
    assert changed[0] == 0  # predicted in the first window, before anything is cached
    assert min(changed[1:]) > 1e-4  # block 1 at the last level, whose prediction moves little


def test_clean_history_of_a_clip_is_corrupted_alike_in_keys_values_and_layers(
    preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values would stay clean, or each layer be wrong by another amount than the cache is."""
    k, v = 3 * torch.randn(2, 2, 4, 64, 16, generator=torch.Generator().manual_seed(1))

    def velocity(_: Any, blocks: range, latents: Tensor, *rest: Any) -> tuple[Tensor, list[Any]]:
        return latents, [(k, v), (0.1 * v, k + 5)]

    monkeypatch.setattr(StreamNetwork, "velocity", velocity)
    given = random_conditions(preset, 2, 6), RolloutOptions(**ROLLING), preset.pipeline
    network = StreamNetwork(random_dit(preset.dit), *given)
    windows = Windows(network, noise_of(preset, 2, 6), 0, 0.5, torch.Generator().manual_seed(0))
    list(windows.blocks(6))
    spreads = []
    for cached in windows.cache.values():
        pairs = zip((k, v, 0.1 * v, k + 5), itertools.chain(*cached), strict=True)
        found = torch.stack([(noisy - kept).std((1, 2, 3)) / kept.std() for kept, noisy in pairs])
        assert torch.allclose(found, found[:1].expand(4, 2), rtol=0.1)
        spreads += found[0].tolist()
    assert len(spreads) >= 8
    assert max(spreads) < 0.55
    assert max(spreads) - min(spreads) > 0.1, "another for every clip and block"


def learned(
    dit: Any, conditions: Conditions, around: Surroundings, noise: Tensor, offset: int,
    starts: Sequence[int] = (0, 0), *, recalibrate: bool = True,
) -> Tensor:  # fmt: skip
    scene = Scene(conditions=conditions, starts=tuple(starts[: len(noise)]))
    generator = torch.Generator().manual_seed(0)
    return rolling_rollout(dit, scene, around, generator, noise, offset, recalibrate=recalibrate)
