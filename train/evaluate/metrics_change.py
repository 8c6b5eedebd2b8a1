"""What changes from frame to frame: how much, in which rhythm, and in pixels that should not.

A latent of the VAE is four frames and a block of the diffusion model twelve. Where one meets the
next, a stream can flicker; the ratios compare those changes with the ones in between.

T frames   S the picture's side   Δ the mean absolute change of a pixel, grey levels
"""

import numpy as np

Array = np.ndarray

LATENT, BLOCK = 4, 12  # frames
SETTLED = 4  # frames at the start of a stream that are left out


class ChangeMeter:
    """Takes a stream piece by piece and keeps sums: any length, no memory."""

    def __init__(self) -> None:
        self.at = 0
        """Frames taken so far."""
        self._sums, self._counts = np.zeros(BLOCK), np.zeros(BLOCK, int)
        self._slow, self._num_slow = 0.0, 0
        self._last: Array | None = None

    def add(self, frames: Array) -> None:
        """The next uint8 [T, S, S, 3]; change number k leads from frame k - 1 to frame k."""
        pieces = [frames] if self._last is None else [self._last, frames]
        joined = np.concatenate(pieces)
        before = len(joined) - len(frames)
        changes = _changes(joined, 1)[max(0, before - 1) :]
        first = self.at if before else 1
        self.at += len(frames)
        places = first + np.arange(len(changes))
        kept = places >= SETTLED
        np.add.at(self._sums, places[kept] % BLOCK, changes[kept])
        np.add.at(self._counts, places[kept] % BLOCK, 1)
        slow = _changes(joined, LATENT)[max(0, before - LATENT) :]
        self._slow += float(slow.sum())
        self._num_slow += len(slow)
        self._last = joined[-LATENT:].copy()

    def figures(self) -> dict[str, float]:
        """Mean Δ: all of it, at borders of latents, inside them, at borders of blocks, at the other
        borders; and of frames a whole latent apart, to which flicker adds nothing."""
        phase = np.arange(BLOCK)
        border = phase % LATENT == 0

        def mean(kept: Array) -> float:
            count = self._counts[kept].sum()
            return float(self._sums[kept].sum() / count) if count else float("nan")

        return {
            "change": mean(phase >= 0),
            "change_border": mean(border),
            "change_inside": mean(~border),
            "change_seam": mean(phase == 0),
            "change_other_border": mean(border & (phase > 0)),
            "change_slow": self._slow / self._num_slow if self._num_slow else float("nan"),
        }


def _changes(frames: Array, apart: int) -> Array:
    """[T - apart]: mean absolute difference of frames so far apart."""
    wide = frames.astype(np.int16)
    return np.abs(wide[apart:] - wide[:-apart]).mean((1, 2, 3))


def flicker(frames: Array, first: int, still: Array) -> float:
    """Mean Δ at borders of latents, of the `still` pixels [S, S]; nan if there are too few.
    `frames` are uint8 [T, S, S, 3], of which frames[0] is number `first` of the stream."""
    places = first + np.arange(1, len(frames))
    borders = np.flatnonzero((places % LATENT == 0) & (places >= SETTLED))
    if not len(borders) or still.sum() < 16:
        return float("nan")
    pixels = frames[:, still].astype(np.int16)
    return float(np.abs(pixels[borders + 1] - pixels[borders]).mean())
