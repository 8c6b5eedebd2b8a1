"""The streaming driver on a tiny network in eager PyTorch."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("torch", reason="the window runs a network of torch")

from export.graphs.time_mlp import timestep_tables
from export.graphs.wan import graphs_of, timesteps_of
from networks.causal_wan import CausalWan
from networks.checkpoint import build_seeded
from networks.configs import WanConfig
from networks.rolling_presets import rolling_preset
from pipeline.config.rolling import RollingConfig
from pipeline.denoising.noise import block_noise
from pipeline.rolling.window import Noise, WindowStage
from tests.golden.avatar.torch_engine import TorchEngine

CONFIG = rolling_preset(
    "tiny",
    wan=WanConfig(
        dim=12,
        ffn_dim=16,
        freq_dim=8,
        num_heads=1,
        num_layers=2,
        channels=2,
        patch_size=1,
        text_dim=4,
        text_len=3,
    ),
    height=16,
    width=16,
    denoising_steps=(1000, 600, 200),
    span_frames=15,
)
STREAM = CONFIG.stream


@pytest.fixture(scope="module")
def wan() -> CausalWan:
    return build_seeded(lambda: CausalWan(CONFIG.wan), seed=1)


def tables_of(wan: CausalWan, config: RollingConfig) -> dict[str, np.ndarray]:
    tables = timestep_tables(wan, timesteps_of(config))
    return {name: tensor.numpy() for name, tensor in tables.items()}


def stage_of(wan: CausalWan, config: RollingConfig = STREAM) -> WindowStage:
    engines = {graph.name: TorchEngine(graph) for graph in graphs_of(wan, config)}
    tables = tables_of(wan, config)
    return WindowStage(config, engines, tables)


@pytest.fixture
def stage(wan: CausalWan) -> WindowStage:
    return stage_of(wan)


def noise_of(seed: int) -> Noise:
    """A function of (seed, block, level): no two draws of a stream share a counter."""
    levels = STREAM.num_levels
    return lambda block, level: block_noise(seed, block * levels + level, STREAM.latent_shape)


def text_of(seed: int) -> np.ndarray:
    shape = (1, STREAM.text_len, STREAM.text_dim)
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def stream(stage: WindowStage, session: int, seed: int, num_blocks: int) -> Iterator[np.ndarray]:
    """The blocks of one stream as they are finished."""
    stage.open(session, text_of(seed), noise_of(seed))
    for _ in range(num_blocks):
        if (done := stage.step(session)) is not None:
            yield done.latent
    for done in stage.drain(session):
        yield done.latent
    stage.close(session)


def equal(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


@pytest.mark.parametrize("num_blocks", range(8))
def test_a_stream_of_any_length_gives_that_many_blocks(stage: WindowStage, num_blocks: int) -> None:
    """A client may stop before the window is full, or before anything."""
    stage.open(0, text_of(0), noise_of(0))
    done = [stage.step(0) for _ in range(num_blocks)]
    done += stage.drain(0)
    finished = [block for block in done if block is not None]
    assert [block.block for block in finished] == list(range(num_blocks))
    assert all(block.latent.shape == STREAM.latent_shape for block in finished)
    assert all(np.isfinite(block.latent).all() for block in finished)


def test_interleaved_streams_equal_separate_ones(stage: WindowStage) -> None:
    """Streams share graphs and output memory, but no state."""
    alone = [list(stream(stage, 0, seed, 7)) for seed in (1, 2)]
    both = zip(stream(stage, 1, 1, 7), stream(stage, 2, 2, 7), strict=True)
    together = [list(blocks) for blocks in zip(*both, strict=True)]
    assert equal(alone[0], together[0])
    assert equal(alone[1], together[1])
    assert not np.array_equal(alone[0][0], alone[1][0])


def test_a_reopened_session_starts_afresh(stage: WindowStage) -> None:
    """Nothing of the stream before may be left in a cache."""
    fresh = list(stream(stage, 5, 3, 6))
    list(stream(stage, 5, 4, 6))
    assert equal(list(stream(stage, 5, 3, 6)), fresh)


def test_later_blocks_never_change_finished_ones(stage: WindowStage) -> None:
    """A viewer has seen them."""
    short, long = (list(stream(stage, 0, 6, n)) for n in (6, 11))
    before_drain = 6 - (STREAM.num_levels - 1)
    assert equal(short[:before_drain], long[:before_drain])


@pytest.mark.parametrize("sampler", ["renoise", "euler"])
def test_every_draw_is_asked_for_once(wan: CausalWan, sampler: str) -> None:
    """A stream could not be repeated from its seed; an Euler step needs no noise."""
    stage, asked = stage_of(wan, dataclasses.replace(STREAM, sampler=sampler)), []

    def noise(block: int, level: int) -> np.ndarray:
        asked.append((block, level))
        return noise_of(0)(block, level)

    stage.open(0, text_of(0), noise)
    for _ in range(4):
        stage.step(0)
    list(stage.drain(0))
    levels = range(STREAM.num_levels if sampler == "renoise" else 1)
    assert sorted(asked) == [(block, level) for block in range(4) for level in levels]


def test_a_long_stream_holds_no_more_than_a_short_one(stage: WindowStage) -> None:
    """Hours of video must not fill the memory."""
    stage.open(0, text_of(0), noise_of(0))
    for _ in range(40):
        stage.step(0)
    state = stage.sessions[0]
    assert len(state.in_flight) < STREAM.num_levels
    assert len(state.finished) == 1
    assert len(state.windows) == STREAM.window_blocks
    assert stage._block_tables.cache_info().currsize <= STREAM.span_blocks


def test_a_switch_changes_the_blocks_in_flight(stage: WindowStage) -> None:
    """From its tick on every block is made under the new prompt."""
    plain = list(stream(stage, 0, 1, 6))
    stage.open(0, text_of(1), noise_of(1))
    blocks = []
    for n in range(6):
        if n == 4:
            stage.switch(0, text_of(8))
        blocks.append(stage.step(0))
    switched = [block.latent for block in blocks if block is not None]
    switched += [block.latent for block in stage.drain(0)]
    assert equal(switched[:2], plain[:2])
    assert not np.allclose(switched[2], plain[2], atol=1e-4)


@pytest.mark.parametrize("kind", ["keep_sink", "new_sink"])
def test_a_rolling_cache_is_run_again_under_a_new_prompt(wan: CausalWan, kind: str) -> None:
    """The window's graph and the re-run's must agree on slots; the text alone is another video."""
    videos = []
    for recache in ("none", kind):
        stage = stage_of(wan, dataclasses.replace(STREAM, recache=recache))
        stage.open(0, text_of(1), noise_of(1))
        for n in range(14):
            if n == 11:
                stage.switch(0, text_of(8))
            last = stage.step(0)
        videos.append(last.latent)
    assert np.isfinite(videos[1]).all()
    assert not np.array_equal(*videos)


def test_a_step_after_the_end_is_refused(stage: WindowStage) -> None:
    """And an end is an end, however often it is said."""
    stage.open(0, text_of(0), noise_of(0))
    stage.step(0)
    stage.end(0)
    stage.end(0)
    assert [block.block for block in stage.drain(0)] == [0]
    with pytest.raises(RuntimeError, match="session 0: all 1 blocks are finished"):
        stage.step(0)


def test_constants_of_another_schedule_are_refused(wan: CausalWan) -> None:
    """The network would be told wrong levels of noise, which looks like a bad network."""
    tables = tables_of(wan, STREAM)
    other = dataclasses.replace(STREAM, shift=3.0)
    engines = {graph.name: TorchEngine(graph) for graph in graphs_of(wan, other)}
    with pytest.raises(ValueError, match="export it anew"):
        WindowStage(other, engines, tables)


def test_warming_up_leaves_no_session(stage: WindowStage) -> None:
    """It runs the shapes of warm-up, steady state and drain."""
    stage.warm_up()
    assert stage.sessions == {}
