"""The face under LiveKit's own runner, with stand-ins for the room and for the server."""

import asyncio
import logging
import time

import numpy as np
import pytest

from tests.support.fake_avatar_server import FakeAvatar

pytest.importorskip("livekit.agents", reason="needs the packages of requirements/livekit.lock")

from livekit import rtc
from livekit.agents.voice.avatar import AudioSegmentEnd

from live_avatar_client import AvatarError
from live_avatar_client.agents.livekit import LiveAvatarSession
from tests.client.agents.livekit_talk import RATE, Agent, Talk, held
from tests.client.agents.stand_in_room import StandInRoom

pytestmark = pytest.mark.long  # a conversation takes its time


def test_ten_seconds_of_talk_with_an_interruption() -> None:
    """Every picture, sound only while it speaks, in pairs; an interruption is told at once and
    takes nothing from the next segment."""

    async def talk(talk: Talk) -> tuple[Talk, float]:
        await asyncio.sleep(1.0)
        await talk.agent.say(8.0)
        await asyncio.sleep(3.0)
        stopped_s = time.monotonic()
        talk.agent.speech.clear_buffer()
        await asyncio.sleep(2.0)
        await talk.agent.say(2.0)
        await asyncio.sleep(4.0)
        return talk, stopped_s

    talked, stopped_s = held(talk)
    sounds, pictures = talked.of(rtc.AudioFrame), talked.of(rtc.VideoFrame)
    shown_s = np.array([at_s for at_s, _ in pictures])
    assert (len(shown_s) - 1) / (shown_s[-1] - shown_s[0]) == pytest.approx(25, abs=0.5)
    assert all((p.width, p.height, len(p.data)) == (6, 4, 72) for _, p in pictures)
    assert all((s.sample_rate, s.samples_per_channel) == (16_000, 640) for _, s in sounds)
    assert all(np.frombuffer(s.data, np.int16).any() for _, s in sounds)

    kinds = [type(part) for _, part in talked.generator.taken]
    pairs = [kinds[i - 1] for i, kind in enumerate(kinds) if kind is rtc.AudioFrame]
    assert set(pairs) == {rtc.VideoFrame}, "each sound follows its picture"

    generations = [s.userdata["generation"] for _, s in sounds]
    assert generations == sorted(generations)
    assert 60 < generations.count(0) < 78
    assert generations.count(1) == 50, "all of the second segment"
    old = [at_s for at_s, s in sounds if s.userdata["generation"] == 0]
    assert old[-1] - stopped_s < 0.05

    names = [name for _, name, _ in talked.agent.events]
    assert names == ["started", "finished", "started", "finished"]
    cut, whole = talked.agent.finished
    assert cut == (pytest.approx(0.04 * generations.count(0), abs=0.05), True)
    assert whole == (2.0, False)
    told_s = talked.agent.events[1][0]
    assert told_s - stopped_s < 0.3
    assert len(talked.of(AudioSegmentEnd)) == 1


def test_segments_that_come_at_once_end_one_by_one() -> None:
    """Counted together, an agent that waits for the first one would wait for both."""

    async def talk(talk: Talk) -> Talk:
        await asyncio.sleep(0.5)
        await talk.agent.say(0.51)
        await talk.agent.say(0.77)
        await asyncio.wait_for(talk.agent.speech.wait_for_playout(), 5)
        return talk

    talked = held(talk)
    assert talked.agent.finished == [(0.52, False), (0.8, False)]
    names = [name for _, name, _ in talked.agent.events]
    assert names == ["started", "finished"] * 2


def test_pieces_of_any_length_lose_no_sample() -> None:
    """The transport of a room sends what pieces it likes."""

    async def talk(talk: Talk) -> Talk:
        await asyncio.sleep(0.5)
        for length in [7, 160, 333, 500, 1000, 4000]:
            piece = np.full(length, 500, np.int16)
            await talk.agent.speech.capture_frame(
                rtc.AudioFrame(piece.tobytes(), 16_000, 1, length)
            )
        talk.agent.speech.flush()
        await asyncio.wait_for(talk.agent.speech.wait_for_playout(), 5)
        return talk

    sounds = [np.frombuffer(s.data, np.int16) for _, s in held(talk).of(rtc.AudioFrame)]
    assert np.count_nonzero(np.concatenate(sounds) == 500) == 6000
    assert 10 <= len(sounds) <= 12


def test_what_is_interrupted_again_and_again_always_hears_of_it() -> None:
    """An agent whose segment never ends hangs."""

    async def talk(talk: Talk) -> Talk:
        for pause_s in (0.0, 0.03, 0.3, 0.61, 0.92):
            await talk.agent.say(3.0)
            await asyncio.sleep(pause_s)
            talk.agent.speech.clear_buffer()
            await asyncio.wait_for(talk.agent.speech.wait_for_playout(), 1)
        await talk.agent.say(0.4)
        await asyncio.wait_for(talk.agent.speech.wait_for_playout(), 3)
        return talk

    finished = held(talk).agent.finished
    assert [interrupted for _, interrupted in finished] == [True] * 5 + [False]
    assert finished[-1][0] == 0.4


def test_a_greeting_waits_for_the_first_visitor() -> None:
    """Nothing is published before; said to an empty room, it would be over when somebody comes."""

    async def talk(talk: Talk) -> Talk:
        await talk.agent.say(1.0)
        await asyncio.wait_for(talk.agent.speech.wait_for_playout(), 5)
        return talk

    talked = held(talk, room=StandInRoom(subscribed_after_s=1.5))
    assert talked.agent.finished == [(1.0, False)]
    assert len(talked.of(rtc.AudioFrame)) == 25
    pictures = talked.of(rtc.VideoFrame)
    assert pictures[1][0] - pictures[0][0] > 1
    assert pictures[-1][0] - pictures[1][0] > 1


def test_the_room_gets_what_the_face_shows() -> None:
    """Published, read back as a visitor of the room would."""

    async def talk(talk: Talk) -> int:
        await asyncio.sleep(0.5)
        stream = rtc.VideoStream(talk.room.local_participant.tracks["avatar_video"])
        seen, began_s = 0, time.monotonic()
        async for event in stream:
            assert event.frame.height == 4
            seen += 1
            if time.monotonic() - began_s > 2:
                break
        await stream.aclose()
        return seen

    assert held(talk) == pytest.approx(50, abs=5)


@pytest.mark.parametrize(
    ("fault", "words"),
    [({"error_at_block": 4}, "stage 2 is on fire"), ({"cut_at_block": 4}, "ended the stream")],
)
def test_an_agent_that_loses_its_face_keeps_its_voice(
    fault: dict, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A conversation with a person must not die with a GPU, nor wait for it."""

    async def talk(talk: Talk) -> Talk:
        await talk.agent.say(4.0)
        await asyncio.wait_for(talk.agent.speech.wait_for_playout(), 6)
        await talk.agent.say(3.0)
        await asyncio.sleep(0.5)
        talk.agent.speech.clear_buffer()
        await asyncio.wait_for(talk.agent.speech.wait_for_playout(), 1)
        await talk.agent.say(1.0)
        await asyncio.wait_for(talk.agent.speech.wait_for_playout(), 3)
        return talk

    with caplog.at_level(logging.ERROR):
        talked = held(talk, FakeAvatar(block_s=0.1, **fault))
    assert caplog.text.count("goes on without its face") == 1
    assert words in caplog.text
    (_, lost), (position, interrupted), last = talked.agent.finished
    assert (lost, interrupted) == (False, True)
    assert 0.3 < position < 1.0
    assert last == (1.0, False)


def test_no_server_is_an_error_in_words() -> None:
    """What a newcomer meets first."""

    async def run() -> None:
        face = LiveAvatarSession(image=b"png", url="127.0.0.1:9")
        await face.start(Agent(), StandInRoom())  # type: ignore[arg-type]

    with pytest.raises(AvatarError, match="make serve"):
        asyncio.run(run())


def test_closing_frees_the_servers_place() -> None:
    """The job ends in the middle of a sentence."""
    avatar = FakeAvatar(block_s=0.1)

    async def talk(talk: Talk) -> None:
        await talk.agent.say(5.0)
        await asyncio.sleep(1.0)
        await talk.face.aclose()
        await talk.face.aclose()

    held(talk, avatar)
    ended = avatar.requests[-1][0].parameters["sequence_end"].bool_param
    assert ended or avatar.cancelled.wait(3)


def test_what_the_face_cannot_say_is_logged_and_the_agent_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An exception would end the runner's reading, and the agent would be mute."""

    async def talk(talk: Talk) -> Talk:
        six = rtc.AudioFrame(bytes(12 * 640), RATE, 6, 640)
        await talk.agent.speech.capture_frame(six)
        await talk.agent.say(0.4)
        await asyncio.wait_for(talk.agent.speech.wait_for_playout(), 3)
        return talk

    with caplog.at_level(logging.ERROR):
        assert held(talk).agent.finished == [(0.4, False)]
    assert "sound has 6 channels at 24000 Hz" in caplog.text
