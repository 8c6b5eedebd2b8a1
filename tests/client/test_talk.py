"""`live-avatar talk`: what a program pipes in is said by a face, and filmed."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from live_avatar_client import read_audio
from live_avatar_client.sound.piped import read_piped
from tests.support.command_line import PORTRAIT, ROOT
from tests.support.fake_avatar_server import FakeAvatar, serving
from tests.support.sounds import tones, write_wav


def samples(seconds: float, rate: int, num_channels: int = 1) -> np.ndarray:
    """int16 [samples, channels]"""
    return (tones(num_channels, seconds, rate).T * 32767).astype("<i2")


def piped(data: bytes, rate: int = 16_000, num_channels: int = 1) -> np.ndarray:
    """What comes out, from a pipe that gives odd pieces."""
    buffered = io.BufferedReader(io.BytesIO(data), buffer_size=777)  # type: ignore[arg-type]
    return np.concatenate(list(read_piped(buffered, rate, num_channels)))


@pytest.mark.parametrize("num_channels", [1, 2])
@pytest.mark.parametrize("rate", [16_000, 22_050])
def test_a_wav_says_its_rate_and_bare_samples_are_told_theirs(
    tmp_path: Path, rate: int, num_channels: int
) -> None:
    """The same sound either way, whatever the options say of a WAV."""
    wav = write_wav(tmp_path / "s.wav", tones(num_channels, 0.5, rate), rate).read_bytes()
    bare = piped(samples(0.5, rate, num_channels).tobytes(), rate, num_channels)
    assert np.array_equal(piped(wav), bare)
    assert len(bare) == 8000


def test_a_pipe_may_give_a_byte_at_a_time() -> None:
    """A header that comes in two writes is one, and half a sample is none."""

    class Dripping(io.BytesIO):
        def readinto(self, into: Any) -> int:
            return super().readinto(memoryview(into)[:1])

    data = samples(0.02, 16_000).tobytes()
    slow = io.BufferedReader(Dripping(data), buffer_size=1)  # type: ignore[arg-type]
    assert np.array_equal(np.concatenate(list(read_piped(slow, 16_000, 1))), piped(data))


def test_a_wav_in_a_pipe_need_not_know_its_length(tmp_path: Path) -> None:
    """Nor be without notes of the program that wrote it."""
    wav = write_wav(tmp_path / "s.wav", tones(1, 0.5, 16_000), 16_000).read_bytes()
    endless = wav[:40] + b"\xff\xff\xff\x7f" + wav[44:]
    noted = endless[:36] + b"LIST\x03\0\0\0abc\0" + endless[36:]
    assert np.array_equal(piped(noted), piped(wav))


FLOATS = b"fmt " + bytes([16, 0, 0, 0, 3, 0, 1, 0]) + bytes(8) + bytes([4, 0, 32, 0])
"""The chunk of a WAV with samples in floating point."""


@pytest.mark.parametrize(
    ("chunks", "words"),
    [(b"fmt ", "ends within its header"), (FLOATS + b"data\0\0\0\0", "of 32 bits in format 3")],
)
def test_a_wav_that_is_none_is_named(chunks: bytes, words: str) -> None:
    """Played as samples it would be noise."""
    with pytest.raises(ValueError, match=words):
        piped(b"RIFF\0\0\0\0WAVE" + chunks)


@pytest.mark.parametrize(("rate", "num_channels"), [(7, 1), (16_000, 0), (16_000, 6)])
def test_a_form_that_is_not_taken_is_named(rate: int, num_channels: int) -> None:
    """The options may say anything."""
    with pytest.raises(ValueError, match=f"{num_channels} channels at {rate} Hz, expected 1 or 2"):
        piped(bytes(64), rate, num_channels)


def started(*arguments: str | Path) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "client")])}
    command = [sys.executable, "-m", "live_avatar_client", "talk", "--image", PORTRAIT, *arguments]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, env=environment, **pipes)


@pytest.mark.long
def test_what_is_piped_in_is_said_and_filmed(tmp_path: Path) -> None:
    """It comes in two parts with a pause; the face lives on meanwhile."""
    out = tmp_path / "talk.mp4"
    with serving(FakeAvatar(block_s=0.05)) as url:
        process = started("--url", url, "--out", out, "--rate", "24000", "--json")
        assert process.stdin
        for _ in range(2):
            process.stdin.write(samples(1.0, 24_000).tobytes())
            process.stdin.flush()
            time.sleep(2.0)
        said, told = process.communicate(timeout=30)
    assert process.returncode == 0, told
    figures = json.loads(said.splitlines()[-1])
    assert figures["frames"] > 2 * 25
    assert figures["onset_ms"] > 0
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == pytest.approx(figures["frames"], abs=15)
    heard = np.abs(np.concatenate(list(read_audio(out))))
    assert np.count_nonzero(heard > 0.05) / 16_000 == pytest.approx(2.0 * 0.93, abs=0.1)


@pytest.mark.long
def test_a_synthesiser_that_hangs_is_ended_by_ctrl_c_and_the_video_kept(tmp_path: Path) -> None:
    """A reader that waits for its pipe must not keep the program from ending."""
    out = tmp_path / "talk.mp4"
    with serving(FakeAvatar(block_s=0.05)) as url:
        process = started("--url", url, "--out", out, "--no-sign")
        assert process.stdin
        process.stdin.write(samples(0.5, 16_000).tobytes())
        process.stdin.flush()
        time.sleep(3.0)
        process.send_signal(2)
        process.wait(timeout=10)
        assert process.stderr
        told = process.stderr.read().decode()
        process.stdin.close()
    assert process.returncode == 130, told
    assert told.startswith("stopped; kept the first ")
    assert len(told.splitlines()) == 1
    assert out.exists()


@pytest.mark.long
@pytest.mark.parametrize(
    ("given", "rate", "words"),
    [
        (b"RIFF\0\0\0\0WAVEfmt ", "16000", "error: the WAV that is piped in ends within its"),
        (b"", "16000", "error: nothing was piped in"),
        (bytes(64), "7", "error: sound has 1 channels at 7 Hz"),
    ],
)
def test_what_is_no_speech_is_one_line(tmp_path: Path, given: bytes, rate: str, words: str) -> None:
    """The program before it in the pipe is often misspelt."""
    out = tmp_path / "talk.mp4"
    with serving(FakeAvatar()) as url:
        process = started("--url", url, "--out", out, "--rate", rate)
        _, told = process.communicate(given, timeout=30)
    assert process.returncode == 1
    assert not out.exists()
    assert told.decode().startswith(words)
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("begin", "kind"), [(b"fLaC", "FLAC"), (b"OggS", "Ogg"), (b"ID3\x04", "MP3")]
)
def test_a_compressed_file_is_not_taken_for_samples(begin: bytes, kind: str) -> None:
    """It would be noise at full loudness."""
    pipe = io.BufferedReader(io.BytesIO(begin + bytes(4000)))
    with pytest.raises(ValueError, match=f"a file of {kind} is piped in"):
        list(read_piped(pipe, 16_000, 1))
