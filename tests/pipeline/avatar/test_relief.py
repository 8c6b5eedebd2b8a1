"""A server that is too full serves its live sessions with a step less, and does not flap."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.avatar.relief import CALM_S, LATE_BLOCKS, LONGEST_CALM_S, WITHIN_S, Relief
from pipeline.avatar.request import ANY_BLOCK, Options
from tests.support.fake_executor import CONFIG, FakeExecutor, FakeReply, submit

LIVE = Options(live=True, sink_distance=30)


def begun(relief: Relief, at_s: float) -> None:
    assert [relief.late(at_s + 0.1 * n) for n in range(LATE_BLOCKS)] == [False, False, True]


def ended_after(relief: Relief, at_s: float) -> float:
    """Seconds without a late block until it ends."""
    seconds = next(s for s in range(1, 10_000) if relief.look(at_s + s, num_live=1))
    assert not relief.is_on
    return seconds


def test_a_late_block_now_and_then_costs_nobody_a_step() -> None:
    """A disk that was busy once would blur everybody."""
    relief = Relief()
    assert not any(relief.late(n * WITHIN_S / (LATE_BLOCKS - 1) * 1.1) for n in range(20))
    assert not relief.is_on


def test_relief_that_does_not_last_is_ended_ever_later() -> None:
    """A server that is too full would go to and fro twice a minute."""
    relief, now_s, waits_s = Relief(), 0.0, []
    for _ in range(6):
        begun(relief, now_s)
        now_s += 0.1 * LATE_BLOCKS
        waits_s.append(ended_after(relief, now_s))
        now_s += waits_s[-1]
    assert waits_s == pytest.approx([CALM_S, 60, 120, 240, LONGEST_CALM_S, LONGEST_CALM_S], abs=1)
    now_s += 2 * LONGEST_CALM_S  # all was well for long
    begun(relief, now_s)
    assert ended_after(relief, now_s + 0.2) == pytest.approx(CALM_S, abs=1)


def test_every_late_block_puts_the_end_off_and_an_empty_server_has_none() -> None:
    """It would end in the middle of the crowd, or be shown on a server without anybody."""
    relief = Relief()
    begun(relief, 0.0)
    assert not relief.late(20.0)
    assert not relief.look(CALM_S + 10, num_live=1)
    assert relief.look(CALM_S + 10, num_live=0)


class Watching(FakeExecutor):
    """Notes what each stage is told of its ring."""

    def __init__(self) -> None:
        super().__init__()
        self.told: dict[int, dict[int, list[int]]] = {stage: {} for stage in range(4)}

    def step(self, stage: int, session: int, tick: int, block: int, *args: Any, **tensors: Any):  # type: ignore[no-untyped-def]
        if (ring_start := tensors.get("ring_start")) is not None:
            self.told[stage][tick] = ring_start.tolist()
        return super().step(stage, session, tick, block, *args, **tensors)


def served(executor: Watching, *, options: Options, **given: Any) -> AvatarOrchestrator:
    avatar = AvatarOrchestrator(
        *(CONFIG, executor),  # type: ignore[arg-type]
        **{"degrade": True, "max_sessions": 1, "idle_timeout_s": 60, **given},
    )
    assert submit(avatar, 1, start=True, blocks=2, options=options).wait() == ""
    return avatar


def late(avatar: AvatarOrchestrator) -> None:
    """Viewers wait for some blocks."""
    done = FakeReply()
    for _ in range(LATE_BLOCKS):
        avatar.post(avatar.was_late, avatar.sessions[1])
    avatar.post(done.finish)
    assert done.wait() == ""


def test_a_live_session_loses_its_last_step_and_gets_it_back() -> None:
    """The step's ring would hold blocks of long ago, or of nobody."""
    executor = Watching()
    avatar = served(executor, options=LIVE)
    try:
        late(avatar)
        assert submit(avatar, 1, blocks=3).wait() == ""
        assert (avatar.sessions[1].is_degraded, avatar.counts.degrades) == (True, 1)
        assert avatar.relief is not None
        avatar.relief._late_s[-1] -= 2 * CALM_S
        assert submit(avatar, 1, blocks=2).wait() == ""
        assert (avatar.sessions[1].is_degraded, avatar.counts.degrades) == (False, 1)
    finally:
        avatar.stop()
    wanted = {block: [0, 0, 0, block + 1] for block in (2, 3, 4)}
    assert executor.told == dict.fromkeys(range(4), wanted)
    assert [c for c in executor.calls if c[0] == 3] == [(3, 1, block) for block in range(7)]


def test_a_block_that_is_made_again_with_all_steps_is_in_its_ring() -> None:
    """Its ring would begin behind it, and the stage would have no place for it."""
    executor = Watching()
    avatar = served(executor, options=LIVE)
    try:
        late(avatar)
        assert submit(avatar, 1, blocks=2).wait() == ""
        assert avatar.relief is not None
        avatar.relief._late_s[-1] -= 2 * CALM_S
        submit(avatar, 1, interrupt=3)
        assert submit(avatar, 1, blocks=1).wait() == ""
    finally:
        avatar.stop()
    assert executor.told[3] == {2: [0, 0, 0, 3], 3: [0, 0, 0, 4], 4: [0, 0, 0, 3]}


@pytest.mark.parametrize(("options", "given"), [(Options(), {}), (LIVE, {"degrade": False})])
def test_a_saved_video_and_an_unwilling_server_keep_all_steps(
    options: Options, given: dict[str, bool]
) -> None:
    """Nobody waits for the one, and the other was not asked."""
    executor = Watching()
    avatar = served(executor, options=options, **given)
    try:
        late(avatar)
        assert submit(avatar, 1, blocks=3).wait() == ""
    finally:
        avatar.stop()
    assert executor.told == {stage: {} for stage in range(4)}
    assert avatar.counts.degrades == 0


def test_a_server_of_two_steps_has_none_to_spare() -> None:
    """Half a video's noise would stay in it."""
    config = dataclasses.replace(CONFIG, num_steps=2)
    with pytest.raises(ValueError, match="degrade is yes with 2 denoising steps, wanted 3"):
        AvatarOrchestrator(config, FakeExecutor(), degrade=True, max_sessions=1, idle_timeout_s=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("quiet", ["zeros", "interrupted"])
def test_an_answer_is_timed_from_sound_that_follows_silence(quiet: str) -> None:
    """Nobody could say how long a visitor waits for the lips to move."""
    executor = Watching()
    avatar = AvatarOrchestrator(CONFIG, executor, max_sessions=1, idle_timeout_s=60)  # type: ignore[arg-type]
    voice = np.full(7680, 0.1, np.float32)
    block = CONFIG.samples_per_block
    try:
        first = np.concatenate([voice, voice])
        assert submit(avatar, 1, start=True, options=LIVE, audio=first).wait() == ""
        assert len(avatar.counts.onsets_s) == 0, "the first frame has a figure of its own"
        if quiet == "interrupted":
            submit(avatar, 1, interrupt=ANY_BLOCK)
        else:
            assert submit(avatar, 1, audio=np.zeros(2 * block, np.float32)).wait() == ""
        assert submit(avatar, 1, audio=np.concatenate([voice] * 3), end=True).wait() == ""
    finally:
        avatar.stop()
    (onset_s,) = avatar.counts.onsets_s
    assert 0 < onset_s < 5
