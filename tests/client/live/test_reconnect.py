"""A live session whose server is lost, against a stand-in that speaks the wire."""

import asyncio
import time

import numpy as np
import pytest

from live_avatar_client import AvatarError, LiveFrame, LiveSession
from tests.client.live.simulated_talk import speech
from tests.client.live.stand_in import frames_for, held, until
from tests.support.fake_avatar_server import FakeAvatar

pytestmark = pytest.mark.long  # a conversation takes its time


@pytest.mark.parametrize(
    "fault",
    [
        {"abort_at_block": 3},
        pytest.param({"cut_at_block": 3}, marks=pytest.mark.slow),
        pytest.param({"cut_at_block": 0}, marks=pytest.mark.slow),
        {"refuses_start": "all 2 sessions of this server are in use; try again later"},
        {"error_at_block": 3, "error": "sequence 7 must specify the START flag on the first"},
    ],
)
def test_a_talk_goes_on_at_another_try(fault: dict, caplog: pytest.LogCaptureFixture) -> None:
    """A server's death would end the conversation, or swallow what was being said."""
    said = speech(1.0)

    async def talk(face: LiveSession) -> list[LiveFrame]:
        seen = []
        async for frame in until(face, 3.4):
            seen.append(frame)
            if frame.index == 20:
                face.feed(said)
        return seen

    avatar = FakeAvatar(block_s=0.1, num_faulty=1, **fault)
    seen = held(talk, avatar, reconnect=True)
    assert seen[-1].index >= 85
    heard = np.concatenate([frame.sound for frame in seen])
    np.testing.assert_array_equal(heard[heard != 0], said)
    assert avatar.num_streams == 2
    assert not seen[-1].is_held
    assert "trying again in" in caplog.text


def test_a_server_that_owes_a_block_is_asked_whether_it_still_has_the_session() -> None:
    """A reloaded one owes it for ever, and the face would stand still for 20 s."""
    avatar = FakeAvatar(block_s=1.6)

    async def talk(face: LiveSession) -> None:
        await frames_for(face, 2.5)

    held(talk, avatar)
    assert any(tensors.keys() == {"received"} for _, tensors in avatar.requests[:-1])


def test_a_talk_that_waits_for_another_try_can_be_ended() -> None:
    """The window would not close while the server is away."""
    avatar = FakeAvatar(refuses_start="no new sessions here; try another server")

    async def talk(face: LiveSession) -> float:
        await asyncio.sleep(1.2)
        began_s = time.monotonic()
        await face.close()
        return time.monotonic() - began_s

    assert held(talk, avatar, reconnect=True) < 3


def test_a_talk_waits_as_long_as_it_was_told() -> None:
    """A visitor who is told to wait would wait for ever, or be sent away too soon."""
    avatar = FakeAvatar(refuses_start="no new sessions here; try another server")

    async def talk(face: LiveSession) -> None:
        with pytest.raises(AvatarError, match="given up after"):
            await asyncio.wait_for(frames_for(face, 60.0), 8)
        assert face.is_lost

    held(talk, avatar, reconnect=True, give_up_s=0.5)


def test_a_prompt_of_before_a_loss_holds_after_it() -> None:
    """The face would fall back to what the talk began with."""

    async def talk(face: LiveSession) -> None:
        await face.set_prompt("a lighthouse")
        await frames_for(face, 2.0)

    avatar = FakeAvatar(block_s=0.1, abort_at_block=2, num_faulty=1)
    held(talk, avatar, reconnect=True, prompt="a room")
    told = [bytes(t["prompt"]).decode() for _, t in avatar.requests if "image" in t]
    assert told == ["a room", "a lighthouse"]
