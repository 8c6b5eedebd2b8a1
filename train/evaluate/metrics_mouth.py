"""How well a mouth that was read from pixels follows the mouth that the sound asks for.

T frames, 25 per second   N of them that were read
"""

from collections.abc import Sequence

import numpy as np

from train.world.measure import STILL, correlation

Array = np.ndarray

LARGEST_LAG = 10  # frames, 400 ms, that the best lag is searched within
SETTLED_SILENCE = 3  # frames that a mouth is closed before and after one that counts as silence
FEWEST_SILENT = 12
CLOSED = 0.1  # opening below which lips look closed


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
