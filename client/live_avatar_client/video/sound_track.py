"""The sound beside a video: AAC, never further than the pictures are.

Letters: C channels, S samples.
"""

from fractions import Fraction
from pathlib import Path

import av
import av.container
import numpy as np

from live_avatar_client.protocol import Array
from live_avatar_client.sound.decoder import decode_sound, open_sound

_RATES = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_SLICE = 1 << 16  # samples that are encoded at once


class SoundTrack:
    """Mono where the file begins with one channel, else stereo; at the file's rate if AAC has it.

    Decoded as by `read_audio`, which says what is missing, so that lips and sound stay together.
    Raises ValueError for files without sound.
    """

    def __init__(self, container: av.container.OutputContainer, path: str | Path) -> None:
        with open_sound(path) as (_, source):
            self._rate = source.rate if source.rate in _RATES else 48_000
            self._num_channels = 1 if source.channels == 1 else 2
        self._layout = "mono" if self._num_channels == 1 else "stereo"
        self._container = container
        self._stream = container.add_stream("aac", rate=self._rate, layout=self._layout)
        self._pieces = decode_sound(path, self._rate, layout="stereo")
        self._next: Array | None = next(self._pieces, None)
        self._num_samples = 0

    def write_until(self, seconds: Fraction) -> None:
        """Write the pieces that end by then."""
        limit = int(seconds * self._rate)
        while self._next is not None and self._num_samples + self._next.shape[1] <= limit:
            self._write(self._next)
            self._next = next(self._pieces, None)

    def finish(self, seconds: Fraction) -> None:
        """Write what is left until then, cutting the last piece, and close the source."""
        self.write_until(seconds)
        room = int(seconds * self._rate) - self._num_samples
        if self._next is not None and room > 0:
            self._write(self._next[:, :room])
        self.close()
        self._container.mux(self._stream.encode(None))

    def close(self) -> None:
        """Close the source."""
        self._pieces.close()

    def _write(self, planes: Array) -> None:
        for begin in range(0, planes.shape[1], _SLICE):
            part = self._placed(planes[:, begin : begin + _SLICE])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=self._layout)
            frame.sample_rate, frame.time_base = self._rate, Fraction(1, self._rate)
            frame.pts = self._num_samples
            self._num_samples += part.shape[1]
            self._container.mux(self._stream.encode(frame))

    def _placed(self, planes: Array) -> Array:
        """float32 [C, S] of any C as this track's channels, in [-1, 1]."""
        if len(planes) != self._num_channels:
            average = planes.mean(axis=0, keepdims=True, dtype=np.float32)
            planes = np.repeat(average, self._num_channels, axis=0)
        return np.ascontiguousarray(np.clip(planes, -1.0, 1.0), np.float32)
