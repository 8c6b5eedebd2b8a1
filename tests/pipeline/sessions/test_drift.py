"""What counts as drift: three distances, smoothed, each with its limit."""

import numpy as np
import pytest

from pipeline.sessions.drift import AGAIN_BLOCKS, FARTHEST, Appearance, Distances, Drift

LIMITS = Distances(colour=0.5, sharpness=0.15, identity=0.25)


def picture(side: int = 12) -> np.ndarray:
    """A latent [1, 16, 3, side, side + 1] that is smooth, with some fine detail."""
    rng = np.random.default_rng(7)
    rough = rng.standard_normal((1, 16, 3, side, side + 1))
    smooth = sum(np.roll(rough, (i, j), (3, 4)) for i in range(4) for j in range(4)) / 4
    return (smooth + 0.2 * rough).astype(np.float32)


def blurred(latent: np.ndarray) -> np.ndarray:
    around = sum(np.roll(latent, shift, axis) for shift in (-1, 1) for axis in (3, 4))
    soft = 0.5 * latent + 0.125 * around
    return soft * (latent.std() / soft.std())  # type: ignore[no-any-return]


def distances(changed: np.ndarray) -> Distances:
    return Appearance.of(changed).distances(Appearance.of(picture()))


@pytest.mark.parametrize(
    ("changed", "beyond"),
    [
        (picture(), set()),
        (picture() + np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 16, 1, 1, 1), {"colour"}),
        (2.0 * picture(), {"colour"}),
        (blurred(picture()), {"sharpness"}),
        (picture()[..., ::-1], {"identity"}),
        (np.full_like(picture(), np.nan), {"colour", "sharpness", "identity"}),
        (np.full_like(picture(), np.inf), {"colour", "sharpness", "identity"}),
        (np.zeros_like(picture()), {"colour", "sharpness", "identity"}),
    ],
    ids=["same", "tinted", "contrast", "blurred", "mirrored", "nan", "infinite", "flat"],
)
def test_each_distance_sees_its_own_change_alone(changed: np.ndarray, beyond: set[str]) -> None:
    """An alarm would not say what is wrong, or never come."""
    found = distances(changed)
    assert all(0 <= distance <= FARTHEST for distance in found)
    pairs = zip(Distances._fields, found, LIMITS, strict=True)
    assert {name for name, distance, limit in pairs if distance > limit} == beyond


def test_a_latent_of_another_size_is_measured_too() -> None:
    """Sides that no cells divide, or that have fewer, would be an error in mid-talk."""
    for side in (3, 17, 60):
        own = Appearance.of(picture(side))
        assert own.distances(own) == pytest.approx((0, 0, 0), abs=1e-5)


def test_one_odd_block_is_no_drift_and_a_lasting_change_is_told_once() -> None:
    """A blink would wake somebody, or a talk that has gone astray would fill the log."""
    drift, good, bad = Drift(LIMITS), Appearance.of(picture()), Appearance.of(picture() * 2.3)
    assert 0.5 < distances(picture() * 2.3).colour < 1
    assert not any(drift.see(0, one) for one in (good, good, bad, good, good))
    assert not drift.is_beyond
    crossed = [drift.see(0, bad) for _ in range(30)]
    assert crossed.count(True) == 1
    assert crossed.index(True) > 3
    assert drift.is_beyond
    drift.see(0, good)
    assert drift.is_beyond  # a little less than the limit is not yet back
    for _ in range(10):
        drift.see(0, good)
    assert not drift.is_beyond
    assert max(drift.distances) < 0.5


def test_what_is_shown_on_purpose_is_no_drift() -> None:
    """A new prompt may show the person in another light; a block before it may come late."""
    drift, old, new = Drift(LIMITS), Appearance.of(picture()), Appearance.of(-picture())
    drift.see(0, old)
    drift.restart(2)
    pictures = {3: new, 1: old, 2: new, **dict.fromkeys(range(4, 24), new)}
    assert not any(drift.see(block, seen) for block, seen in pictures.items())
    assert max(drift.distances) < 1e-5


def test_an_anchor_is_given_time_to_hold() -> None:
    """A session would begin its ring anew at every block, and never move smoothly again."""
    drift, good, bad = Drift(LIMITS), Appearance.of(picture()), Appearance.of(-picture())
    drift.see(0, good)
    assert not drift.asks_for_anchor(1)
    for _ in range(5):
        drift.see(0, bad)
    asked = [block for block in range(6, 6 + 2 * AGAIN_BLOCKS) if drift.asks_for_anchor(block)]
    assert asked == [6, 6 + AGAIN_BLOCKS]


def test_a_line_of_the_log_says_how_far_and_what_is_allowed() -> None:
    """Nobody could tell colour from another person."""
    assert str(Drift(LIMITS)) == (
        "colour 0.00 of 0.5, sharpness 0.00 of 0.15, identity 0.00 of 0.25"
    )
