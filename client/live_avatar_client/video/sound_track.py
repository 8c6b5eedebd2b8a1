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

RATES = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_SLICE = 1 << 16  # samples that are encoded at once


class SampleTrack:
    """Samples as they come, of one channel or two, at a rate that AAC has."""

    def __init__(
        self, container: av.container.OutputContainer, rate: int, num_channels: int
    ) -> None:
        if rate not in RATES or num_channels not in (1, 2):
            raise ValueError(
                f"sound has {num_channels} channels at {rate} Hz, expected 1 or 2 at one of "
                f"{', '.join(map(str, RATES))} Hz"
            )
        self.rate, self.num_samples = rate, 0
        self._num_channels = num_channels
        self._layout = "mono" if num_channels == 1 else "stereo"
        self._container = container
        self._stream = container.add_stream("aac", rate=rate, layout=self._layout)

    def append(self, planes: Array) -> None:
        """Write float32 [C, S] in [-1, 1]; other channels than this track's are averaged."""
        for begin in range(0, planes.shape[1], _SLICE):
            part = self._placed(planes[:, begin : begin + _SLICE])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=self._layout)
            frame.sample_rate, frame.time_base = self.rate, Fraction(1, self.rate)
            frame.pts = self.num_samples
            self.num_samples += part.shape[1]
            self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Write what the encoder still holds."""
        self._container.mux(self._stream.encode(None))

    def _placed(self, planes: Array) -> Array:
        """float32 [C, S] of any C as this track's channels, in [-1, 1]."""
        if len(planes) != self._num_channels:
            average = planes.mean(axis=0, keepdims=True, dtype=np.float32)
            planes = np.repeat(average, self._num_channels, axis=0)
        return np.ascontiguousarray(np.clip(planes, -1.0, 1.0), np.float32)


class SoundTrack:
    """The sound of a file, mono where it begins with one channel, else stereo; at the file's rate
    if AAC has it.

    Decoded as by `read_audio`, which says what is missing, so that lips and sound stay together.
    Raises ValueError for files without sound.
    """

    def __init__(self, container: av.container.OutputContainer, path: str | Path) -> None:
        with open_sound(path) as (_, source):
            rate = source.rate if source.rate in RATES else 48_000
            num_channels = 1 if source.channels == 1 else 2
        self._track = SampleTrack(container, rate, num_channels)
        self._pieces = decode_sound(path, rate, layout="stereo")
        self._next: Array | None = next(self._pieces, None)

    def write_until(self, seconds: Fraction) -> None:
        """Write the pieces that end by then."""
        limit = int(seconds * self._track.rate)
        while self._next is not None and self._track.num_samples + self._next.shape[1] <= limit:
            self._track.append(self._next)
            self._next = next(self._pieces, None)

    def finish(self, seconds: Fraction) -> None:
        """Write what is left until then, cutting the last piece, and close the source."""
        self.write_until(seconds)
        room = int(seconds * self._track.rate) - self._track.num_samples
        if self._next is not None and room > 0:
            self._track.append(self._next[:, :room])
        self.close()
        self._track.finish()

    def close(self) -> None:
        """Close the source."""
        self._pieces.close()
