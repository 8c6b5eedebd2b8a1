"""The newest block made again, and prompts in mid-session, on the demo preset's real graphs."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.avatar.executor import AvatarExecutor
from pipeline.avatar.local import local_executor
from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.avatar.request import AvatarRequest, Options
from pipeline.sessions.session import BlockFrames
from tests.support.fake_executor import FakeReply, wait_until

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "artifacts" / "demo"
BLOCK, LOOK_AHEAD = 7680, 1280
LAYOUTS = {
    "4 stages": {},
    "2 stages": {"steps": [[0, 1], [2, 3]]},
    "2 stages, the sink sent": {"steps": [[0, 1], [2, 3]], "sends_sink": True},
}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[] if "sent" in name else pytest.mark.slow) for name in LAYOUTS
    ],
)
def executor(request: pytest.FixtureRequest) -> Iterator[AvatarExecutor]:
    executor = local_executor(DEMO, **LAYOUTS[request.param])  # type: ignore[arg-type]
    yield executor
    executor.stop()


class Talk:
    """A session whose sound goes out block by block, each when the one before it is here."""

    def __init__(self, executor: AvatarExecutor, *, rebind: bool = False) -> None:
        self.avatar = AvatarOrchestrator(
            executor.config, executor, max_sessions=1, idle_timeout_s=9
        )
        self.sent = 0
        image = (ROOT / "examples" / "portrait.png").read_bytes()
        options = Options(sink_distance=30, live=True, rebind=rebind)
        self.send(start=True, image=image, prompt="a person talks", seed=5, options=options)

    def send(self, **fields: object) -> list[BlockFrames]:
        """A request and its blocks."""
        fields = {"start": False, "end": False, **fields}
        reply = FakeReply()
        self.avatar.submit(AvatarRequest(session=1, **fields), reply)  # type: ignore[arg-type]
        assert reply.wait(60) == ""
        return reply.blocks

    def say(self, sound: np.ndarray, block: int, **fields: object) -> BlockFrames:
        """Sound of a stream up to the end of a block and its look-ahead; the block."""
        end = (block + 1) * BLOCK + LOOK_AHEAD
        (made,) = self.send(audio=sound[self.sent : end], **fields)
        self.sent = end
        assert made.block == block
        return made

    def again(self, sound: np.ndarray, block: int) -> BlockFrames:
        """The newest block with other sound."""
        self.sent = block * BLOCK
        return self.say(sound, block, interrupt=block)

    def end(self) -> None:
        self.send(end=True)
        self.avatar.stop()


def sound(seed: int, num_blocks: int = 8) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(num_blocks * BLOCK)
    return (0.1 * noise).astype(np.float32)


@pytest.mark.parametrize(
    "redone", [4, *(pytest.param(b, marks=pytest.mark.slow) for b in (0, 2, 5))]
)
def test_a_block_made_again_is_as_if_it_had_been_made_once(
    executor: AvatarExecutor, redone: int
) -> None:
    """Its keys, the decoder's state and the sound's volume all have to be those of before. Block 4
    re-calibrates the sink, by what block 0 became."""
    wanted, dropped = sound(0), sound(1)
    start = redone * BLOCK
    dropped[: start + LOOK_AHEAD] = wanted[: start + LOOK_AHEAD]  # the block before heard it
    straight, changing = Talk(executor), None
    expected = [straight.say(wanted, block) for block in range(7)]
    straight.end()
    changing = Talk(executor)
    for block in range(redone):
        changing.say(wanted, block)
    first = changing.say(dropped, redone)
    assert not np.array_equal(first.latent, expected[redone].latent)
    found = [changing.again(wanted, redone)]
    found += [changing.say(wanted, block) for block in range(redone + 1, 7)]
    changing.end()
    for one, other in zip(found, expected[redone:], strict=True):
        np.testing.assert_array_equal(one.latent, other.latent)
        np.testing.assert_array_equal(one.frames, other.frames)


@pytest.fixture(scope="module")
def a_stage_each() -> Iterator[AvatarExecutor]:
    executor = local_executor(DEMO)
    yield executor
    executor.stop()


def test_a_block_that_is_rebound_keeps_its_first_step(
    a_stage_each: AvatarExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the old sound it is what it was; with new sound it is neither the old nor a new one."""
    executor, step = a_stage_each, a_stage_each.step
    old, new, redone = sound(0), sound(1), 2
    new[: redone * BLOCK + LOOK_AHEAD] = old[: redone * BLOCK + LOOK_AHEAD]
    full = Talk(executor)
    for block in range(redone + 1):
        full.say(old, block)
    anew = full.again(new, redone)
    full.end()
    denoised: list[int] = []

    def watched(stage: int, *given: Any, **tensors: Any) -> Any:
        denoised.extend([stage] if "latent" in tensors else [])
        return step(stage, *given, **tensors)

    talk = Talk(executor, rebind=True)
    was = [talk.say(old, block) for block in range(redone + 1)][-1]
    monkeypatch.setattr(executor, "step", watched)
    same, other = talk.again(old, redone), talk.again(new, redone)
    assert denoised == [1, 2, 3, 1, 2, 3]
    np.testing.assert_array_equal(same.frames, was.frames)
    to_anew = np.abs(other.latent - anew.latent).mean()
    assert 0 < to_anew < 0.5 * np.abs(was.latent - anew.latent).mean()
    talk.say(new, redone + 1)
    assert denoised[6:] == [0, 1, 2, 3]
    talk.end()


def test_rebinding_wants_a_stage_for_the_first_step(executor: AvatarExecutor) -> None:
    """What is kept would have passed another step."""
    if executor.num_stages == executor.config.num_steps:
        pytest.skip("this layout has one")
    with pytest.raises(AssertionError, match="rebind is true, but here the first denoising step"):
        Talk(executor, rebind=True)


@pytest.mark.parametrize("station", [1, 3, pytest.param(0, marks=pytest.mark.slow)])
def test_a_block_given_up_between_two_stations_leaves_nothing(
    executor: AvatarExecutor, monkeypatch: pytest.MonkeyPatch, station: int
) -> None:
    """Stages that have seen it, and those that have not, go on alike; so does a new prompt that
    came with it."""
    wanted, dropped, redone = sound(0), sound(1), 3
    dropped[: redone * BLOCK + LOOK_AHEAD] = wanted[: redone * BLOCK + LOOK_AHEAD]
    prompt = {"prompt": "a sad person"}
    straight = Talk(executor)
    expected = [straight.say(wanted, b, **(prompt if b == redone else {})) for b in range(6)]
    straight.end()
    changing = Talk(executor)
    for block in range(redone):
        changing.say(wanted, block)
    is_there, is_given_up = threading.Event(), threading.Event()
    stages, step, decode = executor.num_stages, executor.step, executor.decode
    without: list[int] = []

    def held(stage: int, *given: Any, **tensors: Any) -> Any:
        if "latent" not in tensors:
            without.append(stage)
        made = step(stage, *given, **tensors)
        if stage == min(station, stages - 1):
            is_there.set()
            assert is_given_up.wait(20)
        return made

    def watched(session: int, tick: int, block: int, latent: Any) -> Any:
        if latent is None:
            without.append(stages)
        return decode(session, tick, block, latent)

    monkeypatch.setattr(executor, "step", held)
    monkeypatch.setattr(executor, "decode", watched)
    given_up = FakeReply()
    sent = dropped[changing.sent : (redone + 1) * BLOCK + LOOK_AHEAD]
    request = AvatarRequest(session=1, start=False, end=False, audio=sent, **prompt)
    changing.avatar.submit(request, given_up)  # type: ignore[arg-type]
    assert is_there.wait(20)
    changing.sent = redone * BLOCK
    reply = FakeReply()
    again = wanted[changing.sent : (redone + 1) * BLOCK + LOOK_AHEAD]
    request = AvatarRequest(session=1, start=False, end=False, audio=again, interrupt=redone)
    changing.avatar.submit(request, reply)  # type: ignore[arg-type]
    wait_until(lambda: reply.interruptions)
    is_given_up.set()
    assert (given_up.wait(60), reply.wait(60)) == ("", "")
    assert without == list(range(min(station, stages - 1) + 1, stages + 1))
    changing.sent = (redone + 1) * BLOCK + LOOK_AHEAD
    found = [*reply.blocks, *(changing.say(wanted, b) for b in range(redone + 1, 6))]
    changing.end()
    assert len(found) == len(expected[redone:])
    for one, other in zip(found, expected[redone:], strict=True):
        np.testing.assert_array_equal(one.latent, other.latent)
        np.testing.assert_array_equal(one.frames, other.frames)


def test_a_prompt_in_mid_session_changes_the_picture_and_may_be_taken_back(
    executor: AvatarExecutor,
) -> None:
    """A refilled sink must not stay when the prompt is that of before."""
    said = sound(0)

    def run(prompts: dict[int, str]) -> list[np.ndarray]:
        talk = Talk(executor)
        latents = []
        for block in range(7):
            given = {"prompt": prompts[block]} if block in prompts else {}
            latents.append(talk.say(said, block, **given).latent)
        talk.end()
        return latents

    plain, happy = run({}), run({2: "a happy person smiles"})
    same = run({2: "a person talks"})
    for block in range(7):
        np.testing.assert_array_equal(plain[block], same[block])
        assert np.array_equal(plain[block], happy[block]) == (block < 2)


@pytest.mark.slow
def test_all_layouts_show_a_new_prompt_alike() -> None:
    """A sink that is sent is refilled by the first stage alone, under the new prompt."""
    said, made = sound(0), []
    for layout in LAYOUTS.values():
        executor = local_executor(DEMO, **layout)  # type: ignore[arg-type]
        talk = Talk(executor)
        made.append(
            [
                talk.say(said, b, **({"prompt": "a sad person"} if b in (1, 5) else {})).latent
                for b in range(6)
            ]
        )
        talk.end()
        executor.stop()
    for other in made[1:]:
        np.testing.assert_array_equal(made[0], other)
