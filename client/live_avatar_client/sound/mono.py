"""Several channels become one: their average, or the louder one where they cancel each other.

Letters: C channels, S samples.
"""

import numpy as np

from live_avatar_client.protocol import SAMPLE_RATE, Array

_HOP = SAMPLE_RATE // 50  # 20 ms: one decision each, and the length of a cross-fade
_MEMORY = 0.7  # what a hop leaves of the energies before it: a decision looks back over some 60 ms
_CANCELLED, _SOUND_AGAIN = 1 / 4, 1 / 2
"""Energy of the average over that of unrelated channels; equal ones give C, opposite ones 0.

Below the first number (6 dB lost) the louder channel is taken, above the second one the average
again. Between them nothing changes, so that the choice does not flutter.
"""


class MonoMix:
    """The mix of one run of sound with C channels at 16 kHz; its state is what it heard so far.

    A decision needs the sound up to its hop's end alone, so streaming equals offline whatever the
    pieces' sizes. A change of weights is a cross-fade over a hop, which is not heard as a click.
    """

    def __init__(self, num_channels: int) -> None:
        self.num_channels = num_channels
        self._average = np.full(num_channels, 1 / num_channels, np.float32)
        self._weights: Array | None = None
        self._energies = np.zeros(num_channels)
        self._energy_of_average = 0.0
        self._rest = np.empty((num_channels, 0), np.float32)

    def add(self, planes: Array) -> Array:
        """float32 [C, S] in, float32 [S'] in [-1, 1] out: all whole hops that are there."""
        if len(planes) == 1:
            return _in_range(planes[0])
        joined = np.concatenate([self._rest, planes], axis=1)
        whole = joined.shape[1] - joined.shape[1] % _HOP
        self._rest = joined[:, whole:]
        return self._mixed(joined[:, :whole])

    def finish(self) -> Array:
        """Give out the last partial hop."""
        rest, self._rest = self._rest, self._rest[:, :0]
        return self._mixed(rest)

    def _mixed(self, planes: Array) -> Array:
        hops = range(0, planes.shape[1], _HOP)
        mixed = [self._hop(planes[:, begin : begin + _HOP]) for begin in hops]
        return _in_range(np.concatenate([np.empty(0, np.float32), *mixed]))

    def _hop(self, planes: Array) -> Array:
        average = planes.mean(axis=0, dtype=np.float32)
        self._energies = _MEMORY * self._energies + np.square(planes, dtype=np.float64).sum(axis=1)
        self._energy_of_average *= _MEMORY
        self._energy_of_average += float(np.square(average, dtype=np.float64).sum())
        old = self._average if self._weights is None else self._weights
        new = self._chosen(old)
        before = new if self._weights is None else old
        self._weights = new
        if before is new:
            return average if new is self._average else (new @ planes).astype(np.float32)
        fade = np.linspace(0, 1, _HOP, dtype=np.float32)[: planes.shape[1]]
        return (before @ planes) * (1 - fade) + (new @ planes) * fade

    def _chosen(self, weights: Array) -> Array:
        """The weights from here on: the same object where nothing changes."""
        unrelated = float(self._energies.sum()) / len(self._energies) ** 2
        is_average = weights is self._average
        if self._energy_of_average >= unrelated * (_CANCELLED if is_average else _SOUND_AGAIN):
            return self._average
        loudest = int(self._energies.argmax())
        if not is_average and self._energies[weights > 0][0] >= self._energies[loudest] / 4:
            return weights  # a quarter: the choice stays while it is not clearly the wrong one
        chosen = np.zeros_like(self._average)
        chosen[loudest] = 1.0
        return chosen


def _in_range(samples: Array) -> Array:
    clipped: Array = np.clip(samples, -1, 1, dtype=np.float32)
    return clipped
