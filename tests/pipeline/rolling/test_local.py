"""The rolling-demo preset's real graphs behind the orchestrator, in one process."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config.rules import served_rules
from pipeline.denoising.noise import block_noise
from pipeline.rolling.decoder import RollingDecoder
from pipeline.rolling.executor import WINDOW, RollingExecutor
from pipeline.rolling.local import local_executor
from pipeline.rolling.orchestrator import RollingOrchestrator
from pipeline.rolling.request import RollingOptions, RollingRequest
from tests.support.fake_executor import FakeReply

pytestmark = pytest.mark.long

FOLDER = Path(__file__).parents[3] / "artifacts" / "rolling-demo"
SEED = 5
PROMPT = "a lighthouse in the fog"


@pytest.fixture(scope="module")
def executor() -> Iterator[RollingExecutor]:
    executor = local_executor(FOLDER)
    yield executor
    executor.stop()


@pytest.fixture
def server(executor: RollingExecutor) -> Iterator[RollingOrchestrator]:
    server = RollingOrchestrator(
        served_rules(executor.config), executor, max_sessions=4, idle_timeout_s=60
    )
    yield server
    server.stop()


def send(server: RollingOrchestrator, session: int = 1, **fields: Any) -> FakeReply:
    """Submit a request; START ones get the prompt and the seed."""
    values: dict[str, Any] = {"start": False, "end": False, **fields}
    if values["start"]:
        values = {"prompt": PROMPT, "seed": SEED, **values}
    reply = FakeReply()
    server.submit(RollingRequest(session=session, **values), reply)
    return reply


def made(reply: FakeReply) -> list[np.ndarray]:
    """The latents of a request's blocks, once it is final."""
    assert reply.wait(60) == ""
    return [block.latent for block in reply.blocks]


def clip(
    server: RollingOrchestrator, num_blocks: int, session: int = 1, **fields: Any
) -> FakeReply:
    """A whole stream in one request."""
    return send(server, session, start=True, end=True, num_blocks=num_blocks, **fields)


def equal(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


@pytest.mark.parametrize("num_blocks", [1, 2, 3, 4, 5, 7])
def test_a_stream_equals_the_plain_loop_bit_for_bit(
    server: RollingOrchestrator, executor: RollingExecutor, num_blocks: int
) -> None:
    """The orchestrator is an order of work: warm-up, steady state, drain, decoding."""
    reply = clip(server, num_blocks)
    latents = made(reply)
    stage, decoder = (
        executor.calls.holders[WINDOW].device.stages["deployed"],
        RollingDecoder(FOLDER),
    )
    noise = partial(lambda block, level: block_noise(SEED, block, stage.config.latent_shape, level))
    stage.open(-7, executor.encode_text(PROMPT), noise)
    done = [stage.step(-7) for _ in range(num_blocks)]
    wanted = [block for block in [*done, *stage.drain(-7)] if block is not None]
    stage.close(-7)
    assert equal(latents, [block.latent for block in wanted])
    decoder.open(1)
    for answered, block in zip(reply.blocks, wanted, strict=True):
        np.testing.assert_array_equal(answered.frames, decoder.step(1, block.block, block.latent))


def test_frames_are_counted_from_a_first_block_of_nine(server: RollingOrchestrator) -> None:
    """The first latent frame is one video frame; a player would show a jump."""
    reply = clip(server, 3)
    made(reply)
    assert [len(block.frames) for block in reply.blocks] == [9, 12, 12]
    assert [block.frame_index for block in reply.blocks] == [0, 9, 21]


def test_seconds_are_met_to_the_frame(server: RollingOrchestrator) -> None:
    """Two seconds at 16 frames a second end inside the third block."""
    reply = send(server, start=True, end=True, options=RollingOptions(num_frames=32))
    made(reply)
    assert sum(len(block.frames) for block in reply.blocks) == 32


def test_pulled_blocks_equal_blocks_at_once(server: RollingOrchestrator) -> None:
    """How a client paces itself must not be seen; nothing is made that it has not asked for."""
    whole = made(clip(server, 7))
    assert made(send(server, start=True)) == []
    parts = [made(send(server, num_blocks=n)) for n in (1, 0, 2)]
    rest = made(send(server, end=True, num_blocks=4))
    assert [len(part) for part in parts] == [1, 0, 2]
    assert equal([*parts[0], *parts[2], *rest], whole)
    assert server.sessions == {}


def test_later_requests_never_change_the_blocks_asked_before(server: RollingOrchestrator) -> None:
    """An END or prompt that arrives early would reach blocks of requests that came before it."""
    long = made(clip(server, 12))
    first = send(server, start=True, num_blocks=6)
    last = send(server, end=True, num_blocks=1, prompt="rain")
    assert equal(made(first), long[:6])
    assert not np.array_equal(made(last)[0], long[6])


def test_end_lets_the_blocks_in_flight_come_out(server: RollingOrchestrator) -> None:
    """What has begun is finished, as with the avatar's last partial block."""
    first = made(send(server, start=True, num_blocks=3))
    flushed = made(send(server, end=True))
    assert len(flushed) == server.rules["deployed"].num_levels - 1
    assert equal([*first, *flushed], made(clip(server, 7)))


def test_end_with_no_blocks_stops_at_once(server: RollingOrchestrator) -> None:
    """A viewer who has seen enough."""
    assert len(made(send(server, start=True, num_blocks=2))) == 2
    assert made(send(server, end=True, num_blocks=0)) == []


def test_a_length_is_known_from_the_start(server: RollingOrchestrator) -> None:
    """It is drained as a clip of that length however it is pulled; END takes what is left."""
    whole = made(clip(server, 6))
    frames = server.rules["deployed"].video_frames(6)
    opened = send(server, start=True, num_blocks=4, options=RollingOptions(num_frames=frames))
    pulled = made(opened)
    assert "2 of the stream's 6 blocks are left" in send(server, num_blocks=3).wait()
    assert equal([*pulled, *made(send(server, end=True))], whole)


def test_a_new_prompt_holds_from_its_first_block_on(server: RollingOrchestrator) -> None:
    """Blocks that were asked for before it have been seen."""
    plain = made(clip(server, 9))
    first = made(send(server, start=True, num_blocks=4))
    then = made(send(server, num_blocks=5, end=True, prompt="a forest of glass"))
    assert equal(first, plain[:4])
    assert not any(map(np.array_equal, then, plain[4:]))


def test_interleaved_sessions_equal_separate_ones(server: RollingOrchestrator) -> None:
    """A tick would land in the other session's cache."""
    alone = [made(clip(server, 6, seed=seed)) for seed in (1, 2)]
    together = [clip(server, 6, session, seed=session) for session in (1, 2)]
    assert equal(made(together[0]), alone[0])
    assert equal(made(together[1]), alone[1])
    assert not np.array_equal(alone[0][0], alone[1][0])


def test_a_session_after_another_equals_a_fresh_one(server: RollingOrchestrator) -> None:
    """Nothing of the stream before may be left in caches."""
    fresh = made(clip(server, 6))
    made(clip(server, 6, seed=8, prompt="noise"))
    assert equal(made(clip(server, 6)), fresh)


@pytest.mark.parametrize("rules", ["rolling_recache", "self_forcing", "longlive"])
def test_other_rules_run_on_the_same_graphs(server: RollingOrchestrator, rules: str) -> None:
    """Sequential schedules, other levels, caches that are run again at a change of prompt."""
    options = RollingOptions(rules=rules)
    first = made(send(server, start=True, num_blocks=9, options=options))
    then = made(send(server, end=True, num_blocks=3, prompt="a forest of glass"))
    assert len(first + then) == 12
    assert all(np.isfinite(latent).all() for latent in first + then)
    plain = made(clip(server, 14, options=options))
    assert equal(first, plain[:9])
    assert not np.array_equal(then[0], plain[9])
    assert not np.array_equal(first[0], made(clip(server, 1))[0])


def test_a_start_that_asks_for_nothing_and_ends_is_refused(server: RollingOrchestrator) -> None:
    """A forgotten length would be a stream of no frames without a word."""
    assert "without a length" in send(server, start=True, end=True).wait()
    assert server.sessions == {}


def test_given_noise_replaces_the_seeds(
    server: RollingOrchestrator, executor: RollingExecutor
) -> None:
    """Parity runs bring the draws of another implementation."""
    config = executor.config
    shape, levels = config.latent_shape, config.num_levels
    draws = [[block_noise(SEED, b, shape, level)[0] for level in range(levels)] for b in range(3)]
    given = made(clip(server, 3, seed=99, noise=np.array(draws)))
    assert equal(given, made(clip(server, 3)))
