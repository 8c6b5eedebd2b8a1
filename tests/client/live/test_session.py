"""A live session against a stand-in server that speaks the wire."""

import asyncio
import json
import logging
import threading
import time

import numpy as np
import pytest

from live_avatar_client import AvatarError, LiveFrame, LiveSession
from live_avatar_client.live.session import KEPT_FRAMES
from tests.client.live.simulated_talk import BLOCK, speech
from tests.client.live.stand_in import frames_for, held, until
from tests.support.fake_avatar_server import FakeAvatar

pytestmark = pytest.mark.long  # a conversation takes its time


def test_frames_come_in_pairs_at_their_time_for_ever() -> None:
    """Anything but absolute deadlines drifts; a face that stands still is no idle face."""

    async def talk(face: LiveSession) -> list[tuple[LiveFrame, float]]:
        return [(frame, time.monotonic()) async for frame in until(face, 2.0)]

    avatar = FakeAvatar(block_s=0.1)
    seen = held(talk, avatar)
    assert [f.index for f, _ in seen] == list(range(51))
    assert all(f.sound.shape == (640,) and f.sound.dtype == np.int16 for f, _ in seen)
    assert all(f.picture.shape == (4, 6, 3) and (f.picture == f.block).all() for f, _ in seen)
    first_s = seen[0][0].time_s
    assert all(f.time_s == pytest.approx(first_s + f.index / 25, abs=1e-6) for f, _ in seen)
    late_ms = [1e3 * (now_s - f.time_s) for f, now_s in seen]
    assert min(late_ms) >= 0
    assert np.median(late_ms) < 20
    sent = [len(t["audio_int16"]) for _, t in avatar.requests if "audio_int16" in t]
    assert sent[0] == BLOCK + 1280
    assert set(sent[1:]) == {BLOCK}


def test_what_is_fed_in_a_burst_is_heard_soon_and_with_its_own_pictures() -> None:
    """The stand-in's pictures bear their block's number: sound of another block would show."""
    said = speech(1.3)

    async def talk(face: LiveSession) -> tuple[list[LiveFrame], float]:
        seen, fed_s = [], 0.0
        async for frame in until(face, 4.0):
            seen.append(frame)
            if frame.index == 30:
                fed_s = time.monotonic()
                face.feed(said)
        return seen, fed_s

    avatar = FakeAvatar(block_s=0.1)
    seen, fed_s = held(talk, avatar)
    heard = np.concatenate([f.sound for f in seen if not f.is_held])
    begin = np.flatnonzero(heard)[0]
    assert np.array_equal(heard[begin : begin + len(said)], said)
    first = next(f for f in seen if f.is_speech)
    assert first.time_s - fed_s < 0.45
    stream = np.empty(0, np.int16)
    for _, tensors in avatar.requests:
        if "interrupt" in tensors:  # this block is made again
            stream = stream[: int(tensors["interrupt"][0]) * BLOCK]
        stream = np.concatenate([stream, tensors.get("audio_int16", stream[:0])])
    for frame in seen:
        if frame.sound.any():
            block = stream[frame.block * BLOCK : (frame.block + 1) * BLOCK].reshape(12, 640)
            assert any(np.array_equal(frame.sound, sound) for sound in block)


def test_an_interruption_is_silent_at_once_and_raises_the_generation() -> None:
    """Who goes on talking is rude."""

    async def talk(face: LiveSession) -> tuple[list[LiveFrame], int, float]:
        seen, generation, stopped_s = [], 0, 0.0
        face.feed(speech(20.0))
        async for frame in until(face, 3.0):
            seen.append(frame)
            if frame.index == 40:
                generation, stopped_s = face.interrupt(), time.monotonic()
        assert face.statistics().queued_s == 0
        assert face.statistics().interruptions == 1
        return seen, generation, stopped_s

    seen, generation, stopped_s = held(talk)
    assert any(f.is_speech for f in seen[:40])
    assert not any(f.sound.any() or f.is_speech for f in seen[41:])
    new = next(f for f in seen if f.generation == generation)
    assert new.time_s - stopped_s < 0.4
    assert seen[-1].generation == generation == 1


def test_frames_that_wait_for_a_late_viewer_are_silenced_too() -> None:
    """Half a second of what was interrupted would still be heard."""

    async def talk(face: LiveSession) -> list[LiveFrame]:
        face.feed(speech(20.0))
        async for frame in until(face, 2.0):
            if frame.index == 40:
                assert frame.is_speech
                await asyncio.sleep(0.3)
                face.interrupt()
                return await frames_for(face, 2.0)
        raise AssertionError("no frames")

    after = held(talk)
    assert not any(f.sound.any() or f.is_speech for f in after)
    assert after[0].index == 41


def test_a_viewer_that_is_late_gets_the_newest_frames_and_never_all() -> None:
    """An hour of a hidden window would be an hour of video in memory."""

    async def talk(face: LiveSession) -> list[LiveFrame]:
        seen = []
        async for frame in until(face, 3.0):
            seen.append(frame)
            if frame.index == 10:
                await asyncio.sleep(1.5)
        assert face.statistics().dropped > 15
        return seen

    indices = [f.index for f in held(talk)]
    jump = int(np.argmax(np.diff(indices)))
    assert indices[jump] == 10
    assert 20 <= indices[jump + 1] - 10 <= 40 - KEPT_FRAMES + 5


def test_a_late_block_is_counted_and_holds_the_picture() -> None:
    """The lead that the server needs is found by itself."""
    avatar = FakeAvatar(block_s=0.45)

    async def talk(face: LiveSession) -> list[LiveFrame]:
        seen = await frames_for(face, 4.0)
        counted = face.statistics()
        assert counted.held == sum(f.is_held for f in seen)
        assert 1 <= counted.late <= 3
        assert counted.lead_s > 0.42
        return seen

    seen = held(talk, avatar)
    assert any(f.is_held for f in seen[:30])
    assert not any(f.is_held for f in seen[60:])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"cut_at_block": 2}, "ended the stream.*open a new session"),
        ({"abort_at_block": 2}, "going down.*open a new session"),
        ({"error_at_block": 2}, "stage 2 is on fire.*open a new session"),
    ],
)
def test_a_server_that_goes_away_is_an_error_in_words(fault: dict, words: str) -> None:
    """A picture that stands still for ever tells nobody what happened."""

    async def talk(face: LiveSession) -> None:
        with pytest.raises(AvatarError, match=words):
            await asyncio.wait_for(frames_for(face, 60.0), 5)
        with pytest.raises(AvatarError, match=words):
            face.feed(speech(1.0))
        assert face.statistics().blocks == 2

    held(talk, FakeAvatar(**fault))


def test_a_silent_server_is_given_up_after_the_timeout() -> None:
    """A process that hangs keeps its connection."""

    async def talk(face: LiveSession) -> None:
        with pytest.raises(AvatarError, match=r"silent for 0\.3 s"):
            await asyncio.wait_for(frames_for(face, 60.0), 5)

    held(talk, FakeAvatar(silent=True), timeout_s=0.3)


def test_no_server_is_named_with_the_way_to_start_one() -> None:
    """What a newcomer meets first."""

    async def run() -> None:
        face = LiveSession(image=b"png", url="127.0.0.1:9")
        with pytest.raises(AvatarError, match="make serve"):
            await face.open()
        await face.close()

    asyncio.run(run())


def test_closing_frees_the_servers_place_and_ends_the_frames() -> None:
    """Cancelled while a request is open, END otherwise."""
    avatar = FakeAvatar(block_s=0.1)

    async def talk(face: LiveSession) -> list[LiveFrame]:
        viewing = asyncio.create_task(frames_for(face, 60.0))
        await asyncio.sleep(1.0)
        await face.close()
        await face.close()
        with pytest.raises(RuntimeError, match="closed"):
            face.interrupt()
        return await asyncio.wait_for(viewing, 1)

    assert len(held(talk, avatar)) > 10
    ended = avatar.requests[-1][0].parameters["sequence_end"].bool_param
    assert ended or avatar.cancelled.wait(3)


def test_a_microphones_noise_is_no_speech_behind_the_gate() -> None:
    """Noise is scaled to unit variance in the server: the face would mumble."""
    chance = np.random.default_rng(0)

    async def talk(face: LiveSession) -> np.ndarray:
        heard = []
        async for frame in until(face, 4.6):
            heard.append(frame.sound)
            loud = 40 <= frame.index < 65
            face.feed(chance.normal(0, 0.2 if loud else 1e-3, 640).astype(np.float32))
        return np.concatenate(heard)

    heard = held(talk, gate_db=-40.0)
    assert not heard[: 40 * 640].any()
    said = np.flatnonzero(np.abs(heard) > 500)
    assert len(said) / (25 * 640) == pytest.approx(0.94, abs=0.02)  # so many samples are above 500
    assert not heard[-5 * 640 :].any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image": b""}, "image has 0 bytes"),
        ({"image": b"p", "lead_s": 0}, "above 0"),
        ({"image": b"p", "frames_per_block": 0}, "at least 1"),
    ],
)
def test_unfit_arguments_are_named_before_connecting(arguments: dict, words: str) -> None:
    """A mistake costs no round trip and no place on the server."""
    with pytest.raises(ValueError, match=words):
        LiveSession(**arguments)


@pytest.mark.parametrize(
    ("audio", "words"),
    [
        (np.zeros((2, 640), np.float32), r"float32 \[2, 640\], expected mono 16 kHz"),
        (np.zeros(640), r"float64 \[640\]"),
        (np.full(640, 1e4, np.float32), r"up to 10000, expected \[-1, 1\]"),
        (np.full(640, np.nan, np.float32), "up to nan"),
        (np.zeros(601 * 16_000, np.int16), "at most 600 s may wait"),
    ],
)
def test_unfit_audio_is_refused_and_the_talk_goes_on(audio: np.ndarray, words: str) -> None:
    """One bad chunk of a speech synthesiser must not end a conversation."""

    async def talk(face: LiveSession) -> None:
        with pytest.raises(ValueError, match=words):
            face.feed(audio)
        face.feed(speech(0.5))
        assert any(f.is_speech for f in await frames_for(face, 1.5))

    held(talk)


def test_calls_at_the_wrong_moment_are_told_so() -> None:
    """Before opening there is nobody to talk to; a session is good once."""
    face = LiveSession(image=b"png")
    for call in (face.statistics, face.interrupt, face.flush):
        with pytest.raises(RuntimeError, match="async with"):
            call()

    async def talk(face: LiveSession) -> None:
        with pytest.raises(RuntimeError, match="opened before"):
            await face.open()

    held(talk)


def test_a_prompt_is_taken_or_refused_in_words_and_the_talk_goes_on() -> None:
    """A wish that can't be met is no reason to hang up."""

    async def talk(face: LiveSession) -> None:
        await frames_for(face, 0.2)
        await asyncio.wait_for(face.set_prompt("ä smile"), 2)
        assert (await frames_for(face, 1.0))[-1].index == 25

    async def refused(face: LiveSession) -> None:
        with pytest.raises(AvatarError, match=r"prompt came in mid-session$"):
            await asyncio.wait_for(face.set_prompt("a smile"), 2)
        assert (await frames_for(face, 1.0))[-1].index == 25

    avatar = FakeAvatar()
    held(talk, avatar)
    prompts = [t["prompt"].tobytes().decode() for _, t in avatar.requests if "prompt" in t]
    assert prompts == ["ä smile"]
    held(refused, FakeAvatar(refuses_prompts=True))


def test_a_prompt_hears_of_the_talks_end() -> None:
    """Who waits for an answer that never comes would wait for ever."""

    async def talk(face: LiveSession) -> None:
        with pytest.raises(AvatarError, match="silent"):
            await asyncio.wait_for(face.set_prompt("a smile"), 3)

    held(talk, FakeAvatar(silent=True), timeout_s=0.3)


def test_start_asks_for_a_live_session_of_the_planned_look_ahead() -> None:
    """Without it silence would count in the sound's moments, and the first word would shout."""

    async def talk(face: LiveSession) -> None:
        await frames_for(face, 0.1)

    avatar = FakeAvatar()
    held(talk, avatar, look_ahead_frames=1, options={"recalibrate": False})
    options = json.loads(avatar.requests[0][1]["options"].tobytes())
    assert options == {"live": True, "look_ahead_frames": 1, "recalibrate": False}
    assert len(avatar.requests[1][1]["audio_int16"]) == BLOCK + 640


def test_an_idle_face_begins_to_speak_and_is_stopped_without_a_jump() -> None:
    """Frames that are left out are seen; a block that is made again goes on where it was."""

    async def talk(face: LiveSession) -> tuple[list[LiveFrame], int]:
        seen = []
        async for frame in until(face, 3.0):
            if frame.index in (24, 25):  # a block has just begun to be shown
                face.feed(speech(1.5))
            if frame.index > 50 and frame.block > seen[-1].block and not frame.generation:
                face.interrupt()
            seen.append(frame)
        assert face.statistics().held <= 2
        return seen, face.statistics().made_again

    avatar = FakeAvatar(block_s=0.02)
    seen, made_again = held(talk, avatar)
    again = [int(t["interrupt"][0]) for _, t in avatar.requests if "interrupt" in t]
    assert len(again) == 2 == made_again
    first = next(f for f in seen if f.is_speech)
    assert first.block == again[0]
    assert first.index <= 25 + 8
    assert next(f for f in seen if f.generation == 1).block == again[1]
    blocks = [f.block for f in seen if not f.is_held]
    shown = [blocks.count(number) for number in range(blocks[-1])]
    assert min(shown) >= 12 - 5, "more was left out than the lead's 0.2 s"
    assert shown.count(12) >= len(shown) - 2


def test_nothing_is_logged_by_a_session_that_ends_well(caplog: pytest.LogCaptureFixture) -> None:
    """Tasks that nobody awaits complain at the program's end."""

    async def talk(face: LiveSession) -> None:
        await frames_for(face, 0.5)

    with caplog.at_level(logging.DEBUG, "asyncio"):
        held(talk)
    assert [r.message for r in caplog.records if "selector" not in r.message] == []
    assert [t.name for t in threading.enumerate() if t.name.startswith("avatar-")] == []


def test_an_agent_waits_until_its_words_were_said_before_it_closes() -> None:
    """Closing drops what was not said: the first program of docs/live.md would show nothing."""
    words = speech(1.0)

    async def talk(face: LiveSession) -> list[LiveFrame]:
        async def agent() -> None:
            face.feed(words)
            await face.said()
            await face.close()

        speaking = asyncio.create_task(agent())
        seen = [frame async for frame in face.frames()]
        await speaking
        return seen

    heard = np.concatenate([f.sound for f in held(talk)])
    assert np.array_equal(heard[heard != 0], words[words != 0])


def test_it_speaks_from_feeding_until_the_last_frame_was_shown() -> None:
    """Who waits for the end of a sentence would else cut it off, or wait for ever."""

    async def talk(face: LiveSession) -> None:
        assert not face.is_speaking
        face.feed(speech(0.5))
        assert face.is_speaking
        seen = await frames_for(face, 2.0)
        assert sum(f.is_speech for f in seen) == 13
        assert not face.is_speaking
        face.feed(speech(5.0))
        face.interrupt()
        assert not face.is_speaking
        face.feed(speech(5.0))
        await face.close()
        assert not face.is_speaking

    held(talk)
