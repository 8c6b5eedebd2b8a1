"""The face in Pipecat's own pipelines, with a stand-in for the server."""

import asyncio
import time

import numpy as np
import pytest

from tests.support.fake_avatar_server import FakeAvatar

pytest.importorskip("pipecat", reason="needs the packages of requirements/pipecat.lock")

from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    CancelFrame,
    EndFrame,
    ErrorFrame,
    InterruptionFrame,
    OutputImageRawFrame,
    SpeechOutputAudioRawFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.workers.runner import WorkerRunner

from live_avatar_client.agents.pipecat import LiveAvatarService
from tests.client.agents.pipecat_talk import RATE, Talk, held

pytestmark = pytest.mark.long  # a conversation takes its time


def voiced(sound: SpeechOutputAudioRawFrame) -> bool:
    return bool(np.frombuffer(sound.audio, np.int16).any())


def test_ten_seconds_of_talk_with_an_interruption() -> None:
    """Pictures and sound leave in pairs; who is interrupted is quiet, and can speak again."""

    async def agent(talk: Talk) -> None:
        await asyncio.sleep(1.0)
        await talk.say(8.0)
        await asyncio.sleep(3.0)
        await talk.worker.queue_frame(InterruptionFrame())
        await asyncio.sleep(2.0)
        await talk.say(2.0)
        await asyncio.sleep(4.0)
        await talk.worker.queue_frame(EndFrame())

    talk = held(agent)
    sounds, pictures = zip(*talk.pairs, strict=True)
    assert {type(s) for s in sounds} == {SpeechOutputAudioRawFrame}
    assert {type(p) for p in pictures} == {OutputImageRawFrame}
    assert len(sounds) == pytest.approx(250, abs=10)
    assert [s.metadata for s in sounds] == [p.metadata for p in pictures]
    indices = [s.metadata["frame_index"] for s in sounds]
    assert indices == list(range(indices[0], indices[0] + len(indices)))
    assert all((s.sample_rate, s.num_frames) == (16_000, 640) for s in sounds)
    assert all((p.size, p.format, len(p.image)) == ((6, 4), "RGB", 72) for p in pictures)
    assert all(voiced(s) == s.metadata["is_speech"] for s in sounds)

    generations = [s.metadata["generation"] for s in sounds]
    assert generations == sorted(generations)
    assert set(generations) == {0, 1}
    spoken = [sum(voiced(s) for s in sounds if s.metadata["generation"] == g) for g in (0, 1)]
    assert 50 < spoken[0] < 75
    assert spoken[1] == 50, "all of the second sentence"

    stopped_s = talk.pushed.moment(InterruptionFrame)
    quiet_s = talk.told.moment(BotStoppedSpeakingFrame)
    assert quiet_s - stopped_s < 0.1
    turns = [type(f) for f in talk.told.of(BotStartedSpeakingFrame, BotStoppedSpeakingFrame)]
    assert turns == [BotStartedSpeakingFrame, BotStoppedSpeakingFrame] * 2


def test_the_transport_plays_and_shows_every_pair_and_nothing_else() -> None:
    """A chunk that the transport fills up with silence puts the sound behind the picture, a little
    with every sentence."""

    async def agent(talk: Talk) -> None:
        await asyncio.sleep(0.5)
        for _ in range(3):
            await talk.say(0.73)
            await asyncio.sleep(1.5)
        await talk.worker.queue_frame(EndFrame())

    talk = held(agent)
    sounds, pictures = zip(*talk.pairs, strict=True)
    played = b"".join(samples.tobytes() for _, samples in talk.speaker.heard)
    assert played == b"".join(sound.audio for sound in sounds)
    shown = [picture.metadata["frame_index"] for _, picture in talk.speaker.shown]
    pushed = [picture.metadata["frame_index"] for picture in pictures]
    assert shown == pushed[: len(shown)]
    assert len(pushed) - len(shown) <= 5, "what the transport still holds when it ends"
    shown_s = [at_s for at_s, _ in talk.speaker.shown]
    assert (len(shown_s) - 1) / (shown_s[-1] - shown_s[0]) == pytest.approx(25, abs=1)
    assert talk.pushed.of(TTSStartedFrame)
    assert not talk.pushed.of(TTSAudioRawFrame, TTSStoppedFrame)


def test_an_end_waits_until_everything_was_said() -> None:
    """The agent's goodbye comes in a burst, and the end of the pipeline right behind it."""

    async def agent(talk: Talk) -> None:
        await talk.say(2.5)
        await talk.worker.queue_frame(EndFrame())

    avatar = FakeAvatar(block_s=0.1)
    talk = held(agent, avatar)
    voiced_samples = sum(np.count_nonzero(samples) for _, samples in talk.speaker.heard)
    assert voiced_samples == pytest.approx(2.5 * 16_000, rel=0.01)
    assert is_left(avatar)


def test_an_interruption_behind_the_end_harms_nobody() -> None:
    """The transport still plays the goodbye when somebody talks over it."""

    async def agent(talk: Talk) -> None:
        await talk.say(0.5)
        await talk.worker.queue_frame(EndFrame())
        while not talk.pushed.of(EndFrame):
            await asyncio.sleep(0.01)
        await talk.face.process_frame(InterruptionFrame(), FrameDirection.DOWNSTREAM)

    assert not held(agent).told.of(ErrorFrame)


def is_left(avatar: FakeAvatar) -> bool:
    """Whether the server's place is free again."""
    ended = avatar.requests[-1][0].parameters["sequence_end"].bool_param
    return ended or avatar.cancelled.wait(3)


def test_a_cancelled_pipeline_frees_the_servers_place() -> None:
    """A visitor who hangs up in the middle of a sentence."""

    async def agent(talk: Talk) -> None:
        await talk.say(5.0)
        await asyncio.sleep(1.0)
        await talk.worker.queue_frame(CancelFrame())

    avatar = FakeAvatar(block_s=0.1)
    began_s = time.monotonic()
    held(agent, avatar)
    assert time.monotonic() - began_s < 4
    assert is_left(avatar)


@pytest.mark.parametrize(
    ("fault", "words"),
    [({"error_at_block": 3}, "stage 2 is on fire"), ({"cut_at_block": 3}, "ended the stream")],
)
def test_an_agent_that_loses_its_face_keeps_its_voice(fault: dict, words: str) -> None:
    """A conversation with a person must not die with a GPU."""

    async def agent(talk: Talk) -> None:
        await asyncio.sleep(2.5)
        await talk.say(1.0)
        await asyncio.sleep(1.5)
        await talk.worker.queue_frame(EndFrame())

    talk = held(agent, FakeAvatar(block_s=0.1, **fault))
    (error,) = talk.told.of(ErrorFrame)
    assert words in error.error
    assert error.processor is talk.face
    assert not talk.face.is_usable
    assert talk.pushed.of(TTSStoppedFrame)
    voiced_samples = sum(np.count_nonzero(samples) for _, samples in talk.speaker.heard)
    assert voiced_samples == pytest.approx(16_000, rel=0.05)


def test_no_server_is_one_error_in_words() -> None:
    """What a newcomer meets first."""

    async def agent(talk: Talk) -> None:
        await asyncio.sleep(0.5)
        await talk.worker.queue_frame(EndFrame())

    async def run() -> Talk:
        talk = Talk("127.0.0.1:9")
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(talk.worker)
        await asyncio.wait_for(asyncio.gather(runner.run(), agent(talk)), 20)
        return talk

    (error,) = asyncio.run(run()).told.of(ErrorFrame)
    assert "make serve" in error.error


def test_speech_that_is_no_sound_is_told_and_the_face_lives_on() -> None:
    """One broken piece of a synthesiser is no reason to hang up."""

    async def agent(talk: Talk) -> None:
        await asyncio.sleep(0.5)
        await talk.worker.queue_frame(TTSAudioRawFrame(b"\1", RATE, 1))
        await talk.say(0.5)
        await talk.worker.queue_frame(EndFrame())

    talk = held(agent)
    (error,) = talk.told.of(ErrorFrame)
    assert "1 bytes, expected a multiple of 2" in error.error
    assert talk.face.is_usable
    assert any(voiced(sound) for sound, _ in talk.pairs)


def test_unfit_arguments_are_named_before_the_pipeline_runs() -> None:
    """A mistake is found where it was made."""
    with pytest.raises(ValueError, match="image has 0 bytes"):
        LiveAvatarService(image=b"")
