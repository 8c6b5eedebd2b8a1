"""Speech that a visitor hands in: a sound file, or a sentence that a program speaks."""

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from live_avatar_client.files import shown, words
from live_avatar_client.protocol import SAMPLE_RATE, Array
from live_avatar_client.sound.audio import read_audio

MAX_SPEECH_S = 600
_SPEAK_TIMEOUT_S = 20.0
_FORMATS = "aac,ac3,aiff,amr,asf,au,avi,caf,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,w64,wav"
"""FFmpeg's names. Playlists are not among them: they would name other files of this machine."""


async def file_samples(content: bytes) -> Array:
    """float32 [samples] at 16 kHz of a sound file of any kind; ValueError with words for it."""
    return await asyncio.to_thread(_decoded, content)


async def spoken_samples(program: Sequence[str], text: str) -> Array:
    """The same of a sentence. The program reads the text from stdin, so nothing in it can be an
    option, and writes a sound file to stdout. ValueError with words where it can't."""
    if not can_speak(program):
        raise ValueError(
            "no speech program is installed here: send a sound file, or start the gateway with "
            "--say-program (such as espeak-ng)"
        )
    process = await asyncio.create_subprocess_exec(
        *program,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        content, _ = await asyncio.wait_for(process.communicate(text.encode()), _SPEAK_TIMEOUT_S)
    except TimeoutError:
        raise ValueError(f"{program[0]} took more than {_SPEAK_TIMEOUT_S:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode or not content:
        raise ValueError(f"{shown(program[0])} ended with code {process.returncode}, without sound")
    return await file_samples(content)


def can_speak(program: Sequence[str]) -> bool:
    """Whether the program is installed here."""
    return bool(program) and shutil.which(program[0]) is not None


def _decoded(content: bytes) -> Array:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound"
        path.write_bytes(content)
        try:
            _check_format(path)
            pieces, num_samples = [], 0
            for piece in read_audio(path, 1000):
                pieces.append(piece)
                num_samples += len(piece)
                if num_samples > MAX_SPEECH_S * SAMPLE_RATE:
                    raise ValueError(f"audio has more than {MAX_SPEECH_S} s")
        except ValueError as error:
            raise ValueError(str(error).replace(str(path), "file")) from None
    return np.concatenate(pieces)


def _check_format(path: Path) -> None:
    """ValueError for what is none of `_FORMATS`; nothing else is opened to find out."""
    try:
        av.open(str(path), options={"format_whitelist": _FORMATS}).close()
    except (FFmpegError, OSError, ValueError) as error:
        raise ValueError(f"audio file can't be read: {words(error)}") from None
