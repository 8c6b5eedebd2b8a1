"""A visitor's microphone: any rate in, what the face takes out, and whether somebody speaks."""

import av
import numpy as np

from live_avatar_client.live.gate import Gate
from live_avatar_client.protocol import SAMPLE_RATE, Array

GATE_DB = -45.0
"""Under this level (root mean square, of full scale) nobody speaks."""
_LOUD = 32768 * 10 ** (GATE_DB / 20)
_VOICE_S = 0.12
"""So long must it be loud to count as a voice: a click on the table is shorter."""


class Microphone:
    """Its state is that of the resampler and of the gate."""

    def __init__(self) -> None:
        self._resampler: av.AudioResampler | None = None
        self._rate = 0
        self._gate = Gate(GATE_DB)
        self._loud_s = 0.0

    @property
    def is_open(self) -> bool:
        """Whether sound passes: somebody speaks, or has just done so."""
        return self._gate.is_open

    @property
    def is_voice(self) -> bool:
        """Whether it has been loud for a moment, up to now."""
        return self._loud_s >= _VOICE_S

    def heard(self, frame: av.AudioFrame) -> Array:
        """What passes of a frame, int16 [samples] at 16 kHz mono, as far as it is ready."""
        if self._resampler is None or self._rate != frame.sample_rate:
            self._resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            self._rate = frame.sample_rate
        pieces = [piece.to_ndarray()[0] for piece in self._resampler.resample(frame)]
        samples: Array = np.concatenate([np.empty(0, np.int16), *pieces])
        if len(samples):
            is_loud = np.sqrt(np.mean(np.square(samples, dtype=np.float64))) >= _LOUD
            self._loud_s = self._loud_s + len(samples) / SAMPLE_RATE if is_loud else 0.0
        return self._gate.pass_on(samples)

    def heard_samples(self, content: bytes, rate: int) -> Array:
        """The same of int16 mono samples; ValueError for an odd number of bytes."""
        if not content or len(content) % 2:
            raise ValueError(f"samples have {len(content)} bytes, expected two for each")
        frame = av.AudioFrame.from_ndarray(np.frombuffer(content, "<i2")[None], "s16", "mono")
        frame.sample_rate = rate
        return self.heard(frame)
