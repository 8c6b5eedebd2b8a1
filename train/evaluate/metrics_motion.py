"""How a stream moves: its mouth beside the one that the sound asks for, and what changes in it.

A latent of the VAE is four frames and a block of the diffusion model twelve. Where one meets the
next, a stream can flicker; ratios compare the changes there with the ones in between.

T frames, 25 per second   N of them that were read   S the picture's side   Δ the mean absolute
change of a pixel, grey levels
"""

from collections.abc import Sequence

import numpy as np

from train.world.measure import STILL, correlation

Array = np.ndarray

LARGEST_LAG = 10  # frames, 400 ms, that the best lag is searched within
SETTLED_SILENCE = 3  # frames that a mouth is closed before and after one that counts as silence
FEWEST_SILENT = 12
CLOSED = 0.1  # opening below which lips look closed
LATENT, BLOCK = 4, 12  # frames
SETTLED = 4  # frames at the start of a stream that are left out


def lag_curve(made: Array, true: Array, at: Array) -> Array:
    """Correlation [2 LARGEST_LAG + 1] of the reading `made` [N] of frames `at` [N] with the whole
    true curve [T] moved by each lag."""
    scores = []
    for lag in range(-LARGEST_LAG, LARGEST_LAG + 1):
        inside = (at - lag >= 0) & (at - lag < len(true))
        scores.append(correlation(made[inside], true[at[inside] - lag]))
    return np.array(scores)


def best_lag(curve: Array) -> float:
    """Frames that the picture trails the sound by (negative: leads); nan without a peak."""
    return float(np.argmax(curve) - LARGEST_LAG) if np.isfinite(curve).all() else float("nan")


def chance(made: Array, others: Sequence[Array], at: Array) -> float:
    """Mean |correlation| with the mouths of other sounds: what a score means nothing below."""
    scores = [abs(correlation(made, other[at])) for other in others if at.max() < len(other)]
    return float(np.mean(scores)) if scores else float("nan")


def silent(true: Array) -> Array:
    """bool [T]: frames amid silence, where the lips have had time to close."""
    window = 2 * SETTLED_SILENCE + 1
    padded = np.pad(true > 0, SETTLED_SILENCE, constant_values=False)
    return ~np.lib.stride_tricks.sliding_window_view(padded, window).any(1)


def mouth_scores(
    made: dict[str, Array], true: dict[str, Array], at: Array, others: Sequence[Array]
) -> dict[str, float]:
    """All figures of one run: "opening" and "width" `made` [N], as read from frames `at` [N], and
    `true` of the whole take, [T]; `others` true openings of other sounds, [T] each."""
    scores = {name: correlation(made[name], true[name][at]) for name in ("opening", "width")}
    scores["lag"] = best_lag(lag_curve(made["opening"], true["opening"], at))
    moves = true["opening"].std() >= STILL
    scores["chance"] = chance(made["opening"], others, at) if moves else float("nan")
    quiet = made["opening"][silent(true["opening"])[at]]
    if len(quiet) >= FEWEST_SILENT:
        scores["open_in_silence"] = float(quiet.mean())
        scores["closed_in_silence"] = float((quiet < CLOSED).mean())
    return scores


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
        steps = changes(joined, 1)[max(0, before - 1) :]
        first = self.at if before else 1
        self.at += len(frames)
        places = first + np.arange(len(steps))
        kept = places >= SETTLED
        np.add.at(self._sums, places[kept] % BLOCK, steps[kept])
        np.add.at(self._counts, places[kept] % BLOCK, 1)
        slow = changes(joined, LATENT)[max(0, before - LATENT) :]
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


def changes(frames: Array, apart: int) -> Array:
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
