"""Who speaks: sentences and files in turn, a microphone that interrupts them."""

import asyncio
import io
import shlex
import sys
import wave
from collections.abc import Awaitable, Callable
from pathlib import Path

import av
import numpy as np
import pytest

from live_avatar_client.gateway.conversation import Conversation
from live_avatar_client.gateway.microphone import Microphone
from live_avatar_client.protocol import SAMPLE_RATE, Array

ECHO = (
    sys.executable,
    "-c",
    "import sys; sys.stdout.buffer.write(open(sys.stdin.read(), 'rb').read())",
)
"""A speech program for tests: the sentence is the path of a sound file."""


class Recorder:
    """A face that only keeps what it was given."""

    def __init__(self) -> None:
        self.pieces: list[Array] = []
        self.interruptions = 0

    def feed(self, audio: Array) -> None:
        self.pieces.append(audio)

    def flush(self) -> None:
        pass

    def interrupt(self) -> int:
        self.interruptions += 1
        return self.interruptions

    @property
    def seconds(self) -> float:
        return sum(map(len, self.pieces)) / SAMPLE_RATE


def tone(seconds: float, rate: int = SAMPLE_RATE, level: float = 0.3) -> Array:
    times = np.arange(round(seconds * rate)) / rate
    return (32767 * level * np.sin(2 * np.pi * 300 * times)).astype(np.int16)


def wav(samples: Array, rate: int = SAMPLE_RATE) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(rate)
        written.writeframes(samples.tobytes())
    return file.getvalue()


def conversing(
    talk: Callable[[Conversation, Recorder], Awaitable[None]], program: tuple[str, ...] = ECHO
) -> tuple[Recorder, list[str]]:
    """The face after the talk, and what could not be said."""
    face, failures = Recorder(), list[str]()

    async def run() -> None:
        conversation = Conversation(face, program, failures.append)
        await talk(conversation, face)
        await conversation.close()

    asyncio.run(run())
    return face, failures


async def until(ready: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not ready():
            await asyncio.sleep(0.01)


def test_a_sound_file_of_another_rate_is_said_whole() -> None:
    """A file that is cut or played at a wrong pitch."""

    async def talk(conversation: Conversation, face: Recorder) -> None:
        conversation.play(wav(tone(0.5, 44_100), 44_100))
        assert conversation.source == "speech"
        await until(lambda: conversation.source is None)

    face, failures = conversing(talk)
    assert face.seconds == pytest.approx(0.5, abs=0.002)
    assert failures == []


def test_a_long_file_is_not_handed_over_at_once() -> None:
    """An interruption would come behind what the face has already."""

    async def talk(conversation: Conversation, face: Recorder) -> None:
        conversation.play(wav(tone(30)))
        await until(lambda: face.seconds > 0)
        await asyncio.sleep(0.2)

    face, _ = conversing(talk)
    assert face.seconds <= 5


def test_a_voice_interrupts_and_is_heard_itself() -> None:
    """Whoever talks over the face would talk to a wall."""

    async def talk(conversation: Conversation, face: Recorder) -> None:
        conversation.play(wav(tone(30)))
        await until(lambda: face.seconds > 0)
        conversation.microphone_is_open = True
        face.pieces.clear()
        for _ in range(25):
            conversation.heard_samples(tone(0.02, 48_000).tobytes())
        assert conversation.source == "microphone"

    face, _ = conversing(talk)
    assert face.interruptions == 1
    assert 0.3 < face.seconds <= 0.5


def test_noise_interrupts_nobody() -> None:
    """A fan or a click would cut the face off in mid-sentence."""

    async def talk(conversation: Conversation, face: Recorder) -> None:
        conversation.play(wav(tone(30)))
        await until(lambda: face.seconds > 0)
        conversation.microphone_is_open = True
        conversation.heard_samples(tone(0.06, 48_000).tobytes())  # a click
        for _ in range(50):
            conversation.heard_samples(tone(0.02, 48_000, level=0.001).tobytes())

    face, _ = conversing(talk)
    assert face.interruptions == 0


def test_a_muted_microphone_is_not_heard() -> None:
    """Mute that does not mute."""

    async def talk(conversation: Conversation, face: Recorder) -> None:
        conversation.heard_samples(tone(1, 48_000).tobytes())

    face, _ = conversing(talk)
    assert face.seconds == 0


def test_an_interruption_drops_what_waits_for_its_turn() -> None:
    """The face would fall silent, and begin again with the next sentence."""

    async def talk(conversation: Conversation, face: Recorder) -> None:
        conversation.play(wav(tone(30)))
        conversation.play(wav(tone(30)))
        await until(lambda: face.seconds > 0)
        conversation.interrupt()
        face.pieces.clear()
        await asyncio.sleep(0.1)

    face, _ = conversing(talk)
    assert face.seconds == 0


def test_what_cannot_be_said_is_told_in_words() -> None:
    """A visitor would wait for a voice that never comes."""
    sleeper = tuple(shlex.split(f"{sys.executable} -c 'import sys; sys.exit(3)'"))

    async def talk(conversation: Conversation, face: Recorder) -> None:
        conversation.play(b"no sound at all")
        conversation.say("hello")
        await until(lambda: conversation.source is None)

    _, failures = conversing(talk, program=sleeper)
    assert any("can't be read" in words for words in failures)
    assert any("code 3" in words for words in failures)
    _, failures = conversing(talk, program=("no-such-program",))
    assert any("no speech program is installed" in words for words in failures)


@pytest.mark.parametrize(
    "head", ["#EXTM3U\n#EXTINF:8,\n{}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile {}\n"]
)
def test_a_playlist_reads_no_file_of_the_gateway(tmp_path: Path, head: str) -> None:
    """A visitor could have any recording on the gateway's machine said aloud."""
    (tmp_path / "secret.wav").write_bytes(wav(tone(1)))

    async def talk(conversation: Conversation, face: Recorder) -> None:
        conversation.play(head.format(tmp_path / "secret.wav").encode())
        await until(lambda: conversation.source is None)

    face, failures = conversing(talk)
    assert face.seconds == 0
    assert "can't be read" in failures[0]


def test_a_sentence_is_no_option_of_the_program() -> None:
    """A visitor's `-w /some/file` would write files on the gateway's machine."""
    program = (sys.executable, "-c", "import sys; sys.exit(len(sys.argv) + 40)")

    async def talk(conversation: Conversation, face: Recorder) -> None:
        conversation.say("-w out.wav")
        await until(lambda: conversation.source is None)

    _, failures = conversing(talk, program=program)
    assert "code 41" in failures[0]


def test_a_microphone_of_any_rate_keeps_its_pitch() -> None:
    """WebRTC brings 48 kHz stereo; as 16 kHz mono it must still be the same tone."""
    microphone, heard = Microphone(), []
    for begin in range(0, 48_000, 960):
        stereo = np.repeat(tone(1, 48_000)[begin : begin + 960], 2)[None]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(stereo), "s16", "stereo")
        frame.sample_rate = 48_000
        heard.append(microphone.heard(frame))
    samples = np.concatenate(heard)
    assert len(samples) == pytest.approx(SAMPLE_RATE, abs=200)
    spectrum = np.abs(np.fft.rfft(samples))
    assert spectrum.argmax() * SAMPLE_RATE / len(samples) == pytest.approx(300, abs=3)
