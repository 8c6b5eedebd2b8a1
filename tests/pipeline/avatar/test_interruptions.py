"""What a live client may change: sound that waits, the newest block, the prompt."""

import time
from collections.abc import Iterator
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import pytest

from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.avatar.request import ANY_BLOCK, Options
from tests.support.fake_executor import (
    CONFIG,
    FakeExecutor,
    FakeReply,
    submit,
    wait_until,
)

LIVE = Options(sink_distance=30, live=True)


class GatedExecutor(FakeExecutor):
    """A stage 1 that waits; what is behind stage 0 stays there."""

    def __init__(self) -> None:
        super().__init__()
        self.entered: list[int] = []
        self.gate = self.start_gate.__class__()

    def step(
        self, stage: int, session: int, tick: int, block: int, *given: Any, **tensors: Any
    ) -> Any:
        if stage == 0:
            self.entered.append(block)
        if stage == 1:
            assert self.gate.wait(5)
        return super().step(stage, session, tick, block, *given, **tensors)


@pytest.fixture
def gated() -> GatedExecutor:
    return GatedExecutor()


@pytest.fixture
def live(gated: GatedExecutor) -> Iterator[AvatarOrchestrator]:
    avatar = AvatarOrchestrator(CONFIG, gated, max_sessions=1, idle_timeout_s=5)
    yield avatar
    gated.gate.set()
    avatar.stop()


def boundary(reply: FakeReply) -> tuple[int, int, int]:
    """Generation, block and frame of an interruption, which is answered at once."""
    wait_until(lambda: reply.interruptions)
    (answer,) = reply.interruptions
    return answer.generation, answer.block, answer.frame_index


def numbers(*replies: FakeReply) -> list[tuple[int, int]]:
    """Block and generation of what was answered."""
    return [(b.block, b.generation) for reply in replies for b in reply.blocks]


def test_an_interruption_withdraws_what_has_not_entered(
    live: AvatarOrchestrator, gated: GatedExecutor
) -> None:
    """The avatar would say to the end what nobody wants to hear."""
    said = submit(live, 1, start=True, blocks=20)
    wait_until(lambda: len(gated.entered) >= 4)
    cut = submit(live, 1, interrupt=ANY_BLOCK)
    generation, block, frame = boundary(cut)
    assert (generation, frame) == (1, 12 * block)
    assert 4 <= block < 12
    assert said.ended.empty()
    gated.gate.set()
    assert [said.wait(), cut.wait()] == ["", ""]
    assert numbers(said, cut) == [(b, 0) for b in range(block)]
    instead = submit(live, 1, end=True, blocks=2)
    assert instead.wait() == ""
    assert numbers(instead) == [(block, 1), (block + 1, 1)]
    assert sorted(gated.entered) == list(range(block + 2))


def test_new_sound_may_come_with_the_interruption(live: AvatarOrchestrator) -> None:
    """One message less before the first word."""
    submit(live, 1, start=True)
    reply = submit(live, 1, interrupt=ANY_BLOCK, end=True, blocks=1)
    live.executor.gate.set()  # type: ignore[attr-defined]
    assert reply.wait() == ""
    assert boundary(reply) == (1, 0, 0)
    assert numbers(reply) == [(0, 1)]


def test_sound_that_is_withdrawn_does_not_count_as_waiting(live: AvatarOrchestrator) -> None:
    """Who is far ahead could not be interrupted by what is said instead."""
    ahead = np.zeros(600 * CONFIG.sample_rate, np.float32)
    submit(live, 1, start=True, audio=ahead)
    submit(live, 1, audio=ahead)
    instead = submit(live, 1, interrupt=ANY_BLOCK, audio=ahead[: 4 * CONFIG.samples_per_block])
    live.executor.gate.set()  # type: ignore[attr-defined]
    assert instead.wait() == ""
    submit(live, 1, end=True).wait()


@pytest.mark.parametrize(("interrupt", "first"), [(1, 1), (ANY_BLOCK, 2)])
def test_what_comes_with_an_interruption_holds_from_its_block_on(
    executor: FakeExecutor, interrupt: int, first: int
) -> None:
    """The block before heard sound that is withdrawn: a prompt, or a pose, would be given to it,
    which is made already, and be lost."""
    config = replace(CONFIG, audio_lookahead_frames=2)
    executor.takes_pose = True
    avatar = AvatarOrchestrator(config, executor, max_sessions=1, idle_timeout_s=5)
    ahead = 2 * config.samples_per_frame
    sound = np.ones(2 * config.samples_per_block + ahead, np.float32)
    assert submit(avatar, 1, start=True, audio=sound, options=LIVE).wait() == ""
    frames = np.ones((config.video_frames_per_block, 4, 4, 3), np.uint8)
    given = {"prompt": "happy", "audio": sound, "pose": frames}
    changed = submit(avatar, 1, interrupt=interrupt, **given)
    assert changed.wait() == ""
    assert submit(avatar, 1, end=True).wait() == ""
    assert {block for _, _, block in executor.texts} == {first}
    assert {block for _, _, block in executor.poses} == {first}
    avatar.stop()


def test_a_block_under_way_is_made_again_and_answered_once(
    live: AvatarOrchestrator, gated: GatedExecutor
) -> None:
    """Its frames would be shown before those that replace them."""
    said = submit(live, 1, start=True, blocks=3)
    wait_until(lambda: len(gated.entered) == 3)
    again = submit(live, 1, interrupt=2, end=True, blocks=1)
    assert boundary(again) == (1, 2, 24)
    gated.gate.set()
    assert [said.wait(), again.wait()] == ["", ""]
    assert numbers(said, again) == [(0, 0), (1, 0), (2, 1)]
    assert sorted(gated.entered) == [0, 1, 2, 2]


def test_a_block_that_was_answered_is_made_again_from_the_same_noise(
    live: AvatarOrchestrator, gated: GatedExecutor
) -> None:
    """With other noise the picture would jump."""
    gated.gate.set()
    said = submit(live, 1, start=True, blocks=2, noise=np.ones((2, *CONFIG.latent_shape[1:])))
    assert said.wait() == ""
    for generation in (1, 2):
        again = submit(live, 1, interrupt=1, blocks=1)
        assert again.wait() == ""
        assert numbers(again) == [(1, generation)]
        np.testing.assert_array_equal(again.blocks[0].latent, said.blocks[1].latent)


def test_sound_of_an_older_generation_never_enters(live: AvatarOrchestrator) -> None:
    """It may be with the audio models when the interruption comes."""
    executor, encode = live.executor, live.executor.encode_audio
    began, gate = executor.gate.__class__(), executor.gate.__class__()  # type: ignore[attr-defined]

    def slow(window: object) -> np.ndarray:
        began.set()
        assert gate.wait(5)
        return encode(window)  # type: ignore[arg-type]

    executor.encode_audio = slow  # type: ignore[method-assign]
    executor.gate.set()  # type: ignore[attr-defined]
    sound = np.ones(CONFIG.samples_per_block + 1280, np.float32)
    said = submit(live, 1, start=True, audio=sound)
    assert began.wait(5)
    cut = submit(live, 1, interrupt=ANY_BLOCK)
    assert boundary(cut) == (1, 0, 0)
    gate.set()
    assert [said.wait(), cut.wait()] == ["", ""]
    last = submit(live, 1, end=True, audio=sound[: CONFIG.samples_per_block])
    assert last.wait() == ""
    assert numbers(said, cut, last) == [(0, 1)]


def test_a_live_session_has_one_block_at_a_station(gated: GatedExecutor) -> None:
    """What has entered cannot be withdrawn: of a burst, seconds would."""
    for options, most in ((LIVE, 5), (Options(sink_distance=30), 10)):
        avatar = AvatarOrchestrator(CONFIG, gated, max_sessions=1, idle_timeout_s=5)
        gated.gate.clear()
        gated.entered.clear()
        reply = submit(avatar, 1, start=True, end=True, blocks=20, options=options)
        wait_until(lambda: len(gated.entered) >= 4)
        (session,) = avatar.sessions.values()
        in_flight = session.in_flight
        gated.gate.set()
        assert reply.wait() == ""
        avatar.stop()
        assert 4 <= in_flight <= most


def test_a_prompt_holds_from_the_blocks_of_its_request_on(
    avatar: AvatarOrchestrator, executor: FakeExecutor
) -> None:
    """When it shows would else depend on how busy the server is."""
    submit(avatar, 1, start=True, blocks=6, prompt="?")
    submit(avatar, 1, prompt="four")
    submit(avatar, 1, prompt="longer", blocks=1)
    assert submit(avatar, 1, end=True, blocks=1, prompt="the end").wait() == ""
    wanted = {6: len("longer"), 7: len("the end")}
    assert executor.texts == {
        (stage, 1, block): n for block, n in wanted.items() for stage in range(4)
    }


def test_a_prompt_of_withdrawn_blocks_holds_from_the_boundary_on(
    live: AvatarOrchestrator, gated: GatedExecutor
) -> None:
    """It would come back seconds later."""
    submit(live, 1, start=True, blocks=20)
    wait_until(lambda: len(gated.entered) >= 4)
    submit(live, 1, prompt="happy")
    _, block, _ = boundary(submit(live, 1, interrupt=ANY_BLOCK))
    gated.gate.set()
    assert submit(live, 1, end=True, blocks=2).wait() == ""
    assert gated.texts == {(stage, 1, block): len("happy") for stage in range(4)}


def test_prompts_that_wait_are_bounded(live: AvatarOrchestrator, gated: GatedExecutor) -> None:
    """A client could fill the memory of all."""
    submit(live, 1, start=True, blocks=20, options=LIVE)
    wait_until(lambda: len(gated.entered) >= 4)
    replies = [submit(live, 1, prompt="x", blocks=1) for _ in range(17)]
    assert replies[16].wait() == "16 prompts wait for their blocks, no more are taken"
    gated.gate.set()
    assert submit(live, 1, end=True).wait() == ""
    assert [reply.wait() for reply in replies[:16]] == [""] * 16


def test_only_the_newest_block_or_the_next_can_be_changed(
    live: AvatarOrchestrator, gated: GatedExecutor
) -> None:
    """New sound would stand behind another block than its client believes."""
    said = submit(live, 1, start=True, blocks=3)
    wait_until(lambda: len(gated.entered) == 3)
    for block in (1, 4):
        refused = submit(live, 1, interrupt=block, blocks=1)
        assert refused.wait() == (
            f"interrupt is at block {block}, wanted 2..3, since block 2 is the newest that was "
            "begun; or -1 for the first that was not"
        )
    gated.gate.set()
    last = submit(live, 1, end=True)
    assert [said.wait(), last.wait()] == ["", ""]
    assert numbers(said, last) == [(0, 0), (1, 0), (2, 0)]


@pytest.mark.parametrize("is_done", [True, False])
def test_interruptions_do_not_walk_back(
    live: AvatarOrchestrator, gated: GatedExecutor, is_done: bool
) -> None:
    """Once the newest block is withdrawn, the one before it is not the newest: it is shown, and
    what the models hold of it is final."""
    if is_done:
        gated.gate.set()
    said = submit(live, 1, start=True, blocks=3)
    wait_until(lambda: len(gated.entered) == 3)
    assert not is_done or said.wait() == ""
    assert boundary(submit(live, 1, interrupt=2)) == (1, 2, 24)
    refused = submit(live, 1, interrupt=1)
    assert "interrupt is at block 1, wanted 2..2" in refused.wait()
    again = submit(live, 1, interrupt=2, end=True, blocks=1)
    assert boundary(again) == (2, 2, 24)
    gated.gate.set()
    assert again.wait() == ""
    assert numbers(again) == [(2, 2)]


@pytest.mark.parametrize(("ahead", "wanted"), [(None, 0), (2, 0), (1, 0), (0, 1)])
def test_without_look_ahead_a_block_begins_with_its_last_sample(
    executor: FakeExecutor, ahead: int | None, wanted: int
) -> None:
    """80 ms sooner, for who would rather have that than better lips."""
    config = replace(CONFIG, audio_lookahead_frames=2)
    avatar = AvatarOrchestrator(config, executor, max_sessions=1, idle_timeout_s=5)
    sound = np.ones(config.samples_per_block, np.float32)
    options = Options(sink_distance=30, look_ahead_frames=ahead)
    reply = submit(avatar, 1, start=True, audio=sound, options=options)
    assert reply.wait() == ""
    assert len(reply.blocks) == wanted
    assert submit(avatar, 1, end=True).wait() == ""
    avatar.stop()


def test_a_live_session_is_hardly_delayed_by_one_that_renders_a_file() -> None:
    """A bulk client made somebody's talk stutter."""
    executor = FakeExecutor(step_s=0.02)
    avatar = AvatarOrchestrator(CONFIG, executor, max_sessions=2, idle_timeout_s=5)
    took_s: dict[bool, list[float]] = {False: [], True: []}
    try:
        assert submit(avatar, 1, start=True, options=LIVE).wait() == ""
        for is_beside in (False, True):
            if is_beside:
                bulk = submit(avatar, 2, start=True, end=True, blocks=60)
                wait_until(lambda reply=bulk: len(reply.blocks) > 3)
            for _ in range(8):
                began = time.monotonic()
                assert submit(avatar, 1, blocks=1).wait() == ""
                took_s[is_beside].append(time.monotonic() - began)
        assert bulk.ended.empty()
    finally:
        avatar.stop()
    assert median(took_s[True]) < 2.3 * median(took_s[False])
