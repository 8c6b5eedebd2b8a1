"""The demo preset's real graphs in one process: what must hold whoever calls them, and when."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from pipeline.avatar.audio import StreamingAudio, frame_places, num_hidden_frames
from pipeline.avatar.decoder import Decoder
from pipeline.avatar.executor import AvatarExecutor
from pipeline.avatar.local import local_executor
from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.avatar.request import AvatarRequest, Options
from pipeline.avatar.stage import Stage
from pipeline.denoising.noise import block_noise
from tests.support.fake_executor import FakeReply

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "artifacts" / "demo"
NUM_BLOCKS = 7
SEED = 5
DISTANCE = 12


@pytest.fixture(scope="module")
def executor() -> Iterator[AvatarExecutor]:
    executor = local_executor(DEMO)
    yield executor
    executor.stop()


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    time = np.arange(NUM_BLOCKS * 7680) / 16_000
    return (0.3 * np.sin(700 * time) * np.sin(9 * time)).astype(np.float32)


def request(session: int, audio: np.ndarray, seed: int = SEED) -> AvatarRequest:
    return AvatarRequest(
        session=session,
        start=True,
        end=True,
        image=(ROOT / "examples" / "portrait.png").read_bytes(),
        prompt="a person talks",
        seed=seed,
        options=Options(sink_distance=DISTANCE),
        audio=audio,
    )


def stream(executor: AvatarExecutor, *requests: AvatarRequest) -> list[FakeReply]:
    """Run sessions together through the orchestrator."""
    avatar = AvatarOrchestrator(executor.config, executor, max_sessions=4, idle_timeout_s=60)
    try:
        replies = [FakeReply() for _ in requests]
        for asked, reply in zip(requests, replies, strict=True):
            avatar.submit(asked, reply)
        for reply in replies:
            assert reply.wait(60) == ""
    finally:
        avatar.stop()
    return replies


@pytest.fixture(scope="module")
def piped(executor: AvatarExecutor, audio: np.ndarray) -> FakeReply:
    return stream(executor, request(1, audio))[0]


def test_pipelined_equals_sequential_with_four_caches(
    executor: AvatarExecutor, audio: np.ndarray, piped: FakeReply
) -> None:
    """The pipeline is an order of work, not an approximation."""
    config = executor.config
    stages = [Stage(DEMO, [step]) for step in range(config.num_steps)]
    decoder = Decoder(DEMO)
    source = StreamingAudio(config)
    source.append(audio)
    source.finish()
    conditions = request(1, audio)
    text, motion, _ = executor.condition(conditions)
    for stage in stages:
        stage.open(1, motion, text, motion[:, :, :1].copy())
    decoder.open(1, motion)
    distance = np.full(config.num_steps, DISTANCE, np.int64)
    recalibrated: np.ndarray | None = None
    for block in range(NUM_BLOCKS):
        window = source.next_window()
        assert window is not None
        tokens = executor.audio_tokens(executor.encode_audio(window))
        latent = block_noise(SEED, block, config.latent_shape)
        reference = recalibrated if block == config.recalibrate_block else None
        for stage in stages:
            latent = stage.step(
                1, block, latent, **tokens, sink_distance=distance, reference=reference
            ).copy()
        if block == 0:
            recalibrated = latent[:, :, :1].copy()
        frames = decoder.step(1, block, latent)
        np.testing.assert_array_equal(latent, piped.blocks[block].latent)
        np.testing.assert_array_equal(frames, piped.blocks[block].frames)


@pytest.mark.parametrize("sends_sink", [False, True])
@pytest.mark.parametrize("steps", [[[0, 1], [2, 3]], [[0, 1, 2, 3]], [[0], [1, 2], [3]]])
def test_folding_steps_onto_fewer_stages_changes_nothing(
    audio: np.ndarray, piped: FakeReply, steps: list[list[int]], sends_sink: bool
) -> None:
    """Steps of one stage share weights, text and a prefill, never a cache. Stages may share a
    prefill, too: its K/V are the same bytes wherever they are computed."""
    folded = local_executor(DEMO, steps, sends_sink=sends_sink)
    try:
        reply = stream(folded, request(1, audio))[0]
    finally:
        folded.stop()
    for got, wanted in zip(reply.blocks, piped.blocks, strict=True):
        np.testing.assert_array_equal(got.latent, wanted.latent)


def test_two_interleaved_sessions_equal_two_separate_ones(
    executor: AvatarExecutor, audio: np.ndarray, piped: FakeReply
) -> None:
    """Sessions share engines and threads, nothing else."""
    other = stream(executor, request(2, audio[::-1].copy(), seed=8))[0]
    first, second = stream(executor, request(1, audio), request(2, audio[::-1].copy(), seed=8))
    for got, wanted in ((first, piped), (second, other)):
        for a, b in zip(got.blocks, wanted.blocks, strict=True):
            np.testing.assert_array_equal(a.frames, b.frames)


def test_warming_up_leaves_no_session_behind() -> None:
    """A place would be taken before the first client comes."""
    stage, decoder = Stage(DEMO, [0]), Decoder(DEMO)
    stage.warm_up()
    decoder.warm_up()
    assert stage.sessions == decoder.sessions == {}


def test_streamed_features_equal_the_whole_files_when_the_window_covers_it(
    executor: AvatarExecutor, audio: np.ndarray
) -> None:
    """Streaming may only lose what its context and look-ahead leave out."""
    whole = 10**6
    config = dataclasses.replace(
        executor.config, audio_context_frames=whole, audio_lookahead_frames=whole
    )
    source = StreamingAudio(config)
    for start in range(0, len(audio), 1000):
        source.append(audio[start : start + 1000])
    assert source.next_window() is None
    source.finish()
    blocks = []
    while (window := source.next_window()) is not None:
        blocks.append(executor.encode_audio(window))
    num_frames = NUM_BLOCKS * config.video_frames_per_block
    index, weight = frame_places(
        0, num_frames, 0, num_hidden_frames(len(audio)), fps=config.fps, rate=config.sample_rate
    )
    normalised = (audio - audio.mean()) / np.sqrt(audio.var() + 1e-7)
    inputs = {"samples": normalised[None], "frame_index": index, "frame_weight": weight}
    wanted = executor.calls.call("audio_encoder", inputs, ["audio_features"])["audio_features"]
    # Mean and variance are summed in another precision.
    np.testing.assert_allclose(np.concatenate(blocks, axis=3), wanted, atol=1e-4)


def test_sound_reaches_the_picture(
    executor: AvatarExecutor, audio: np.ndarray, piped: FakeReply
) -> None:
    """Features that never arrive leave a picture that looks alive."""
    silent = stream(executor, request(1, np.zeros_like(audio)))[0]
    difference = np.abs(silent.blocks[2].latent - piped.blocks[2].latent).max()
    assert difference > 1e-3


def test_a_thousand_blocks_leave_memory_flat_and_positions_have_no_end() -> None:
    """An endless video must not grow, nor end at a table's 45,000th row."""
    stage = Stage(DEMO, [0])
    config = stage.config
    rng = np.random.default_rng(0)
    motion = rng.standard_normal((1, 16, 19, *config.latent_shape[3:]), np.float32)
    text = rng.standard_normal((1, config.text_len, config.text_dim), np.float32)
    local = rng.standard_normal(config.audio_local_shape, np.float32)
    overall = rng.standard_normal(config.audio_global_shape, np.float32)
    distance = np.full(config.num_steps, 30, np.int64)
    stage.open(1, motion, text, motion[:, :, :1].copy())
    spread = {}
    memory = 0
    # 900 blocks from the start, then 100 that begin 1.5 million latent frames (66 hours) later.
    for number, block in enumerate([*range(900), *range(500_000, 500_100)]):
        noise = block_noise(0, block, config.latent_shape)
        latent = stage.step(1, block, noise, local, overall, distance)
        assert np.isfinite(latent).all()
        spread[block] = float((latent - noise).std())
        if number == 100:
            memory = psutil.Process().memory_info().rss
    grown_mb = (psutil.Process().memory_info().rss - memory) / 2**20
    assert grown_mb < 5
    early = [spread[b] for b in range(100, 900)]
    late = [spread[b] for b in range(500_004, 500_100)]
    assert min(early) * 0.8 < np.median(late) < max(early) * 1.2
