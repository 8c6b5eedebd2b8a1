"""Raw samples of any rate, as speech synthesisers give them, become what a live session takes."""

import av
import numpy as np

from live_avatar_client.protocol import SAMPLE_RATE, Array

LAYOUTS = {1: "mono", 2: "stereo"}
MIN_RATE, MAX_RATE = 1_000, 768_000


class RawSound:
    """One stream of sound in pieces; its state is the resampler's filter. Another rate or number
    of channels begins a new stream."""

    def __init__(self) -> None:
        self._resampler: av.AudioResampler | None = None
        self._form = (0, 0)

    def add(self, samples: bytes, rate: int, num_channels: int = 1) -> Array:
        """What is ready, int16 [n] mono at 16 kHz, when little-endian int16 samples at `rate` have
        come, channels interleaved. ValueError for what is no such sound."""
        check_form(rate, num_channels)
        if len(samples) % (2 * num_channels):
            raise ValueError(
                f"sound has {len(samples)} bytes, expected a multiple of {2 * num_channels}: "
                f"int16 samples of {num_channels} channels"
            )
        before = self.finish() if self._form != (rate, num_channels) else _joined([])
        self._form = (rate, num_channels)
        if not samples:
            return before
        if self._resampler is None:
            self._resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        plane = np.frombuffer(samples, "<i2")[None]
        frame = av.AudioFrame.from_ndarray(plane, "s16", LAYOUTS[num_channels])
        frame.sample_rate = rate
        return np.concatenate([before, _joined(self._resampler.resample(frame))])

    def finish(self) -> Array:
        """The rest of the stream, int16 [n]; what follows begins a new one."""
        resampler, self._resampler = self._resampler, None
        return _joined([] if resampler is None else resampler.resample(None))

    def clear(self) -> None:
        """Forget the stream; what follows begins a new one."""
        self._resampler = None


def check_form(rate: int, num_channels: int) -> None:
    """ValueError for a rate or a number of channels that is not taken."""
    if num_channels not in LAYOUTS or not MIN_RATE <= rate <= MAX_RATE:
        raise ValueError(
            f"sound has {num_channels} channels at {rate} Hz, expected 1 or 2 channels at "
            f"{MIN_RATE} to {MAX_RATE} Hz"
        )


def _joined(frames: list[av.AudioFrame]) -> Array:
    return np.concatenate([np.empty(0, np.int16), *(frame.to_ndarray()[0] for frame in frames)])
