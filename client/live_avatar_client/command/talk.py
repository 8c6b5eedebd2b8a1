"""`live-avatar talk`: speech that another program writes gets a face, while it is written."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from live_avatar_client.command.ending import held, kept
from live_avatar_client.live.statistics import LiveStatistics
from live_avatar_client.live.threaded import ThreadedLiveSession
from live_avatar_client.protocol import FPS, Array
from live_avatar_client.sound.audio import begun
from live_avatar_client.sound.piped import read_piped
from live_avatar_client.video.writer import VideoWriter

MAX_QUEUED_S = 30.0
"""The writer waits while more than this waits to be said."""
REST_S = 0.6  # the face rests so long before the video ends


class Speaker:
    """Feeds a pipe to a face, in a thread of its own: the face lives while the pipe is silent."""

    def __init__(self, face: ThreadedLiveSession, pieces: Iterator[Array]) -> None:
        self._face, self._pieces = face, pieces
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="avatar-pipe", daemon=True)
        self._thread.start()

    @property
    def is_done(self) -> bool:
        """Whether all was fed. Raises what has ended it early, such as ValueError for no sound."""
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            for piece in self._pieces:
                self._face.feed(piece)
                while self._face.statistics().queued_s > MAX_QUEUED_S:
                    time.sleep(0.5)
            self._face.flush()
        except Exception as error:  # told by the thread that looks
            self._error = error


def speech_of(stdin: TextIO | None, rate: int, num_channels: int) -> Iterator[Array]:
    """Pieces of what is piped in, as a live session takes them; waits for the first one. ValueError
    for what is no speech, and for a terminal."""
    if stdin is None or stdin.isatty():
        raise ValueError(
            "no speech is piped in: let a program write samples or a WAV to this command, as in "
            "espeak-ng --stdout hello | live-avatar talk …"
        )
    # Not sys.stdin's own reader: Python would wait for it at its end, while it waits for the pipe.
    pipe = os.fdopen(stdin.fileno(), "rb", closefd=False)
    return begun(read_piped(pipe, rate, num_channels))


def show(
    face: ThreadedLiveSession, pieces: Iterator[Array], writer: VideoWriter, out: Path
) -> LiveStatistics:
    """Write the face while it says all pieces, and a moment of rest; what the talk was like."""
    num_resting = 0
    with kept(writer, out), face:
        speaker = Speaker(face, pieces)
        for frame in face.frames():
            with held():
                writer.write(frame.picture[None], frame.sound)
            is_over = speaker.is_done and not (frame.is_speech or face.is_speaking)
            num_resting = num_resting + 1 if is_over else 0
            if num_resting >= REST_S * FPS:
                break
        return face.statistics()
