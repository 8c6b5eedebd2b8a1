"""The measures of generated video: what they see, and what they must not see."""

import numpy as np
import pytest

from train.evaluate.gates import Gate, says
from train.evaluate.metrics import BY_NAME, Estimate, bootstrap, by_face, mean, ratio, worst_face
from train.evaluate.metrics_motion import (
    LARGEST_LAG,
    ChangeMeter,
    best_lag,
    flicker,
    lag_curve,
    mouth_scores,
    silent,
)
from train.evaluate.metrics_picture import (
    Drawing,
    box_sum,
    colour_errors,
    likeness,
    sharpness,
    shrunk,
)
from train.evaluate.run import diversity
from train.world.render import REGIONS

SIZE = 32


def curve(seed: int, length: int = 600) -> np.ndarray:
    """A mouth at 25 per second: noise as fast as speech, closed for a third of the time."""
    rng = np.random.default_rng(seed)
    noise = np.convolve(rng.normal(size=length + 8), np.hanning(11)[1:-1], "valid")
    return np.clip(noise / noise.std() / 3 + 0.1, 0, 1)


def scores(made: np.ndarray, true: np.ndarray, at: np.ndarray | None = None) -> dict[str, float]:
    at = np.arange(len(true)) if at is None else at
    mouths = ({"opening": o, "width": o} for o in (made, true))
    return mouth_scores(*mouths, at, [curve(7, len(true)), curve(8, len(true))])


def test_a_mouth_that_follows_scores_one_and_a_frozen_one_nothing() -> None:
    """Lip sync could be bought with no motion at all."""
    true = curve(0)
    assert scores(true, true)["opening"] == pytest.approx(1)
    frozen = scores(np.full_like(true, 0.3), true)
    assert frozen["opening"] == frozen["width"] == 0
    assert frozen["open_in_silence"] == pytest.approx(0.3)
    assert frozen["closed_in_silence"] == 0


def test_without_speech_there_is_no_sync_to_measure() -> None:
    """A silent clip would pull every mean to nothing."""
    still = np.zeros(100)
    found = scores(curve(0, 100), still)
    assert np.isnan(found["opening"])
    assert np.isnan(found["lag"])
    assert found["open_in_silence"] > 0


@pytest.mark.parametrize("lag", [-2, 0, 3])
def test_lag_is_what_the_picture_trails_by_even_if_only_pieces_were_read(lag: int) -> None:
    """Long runs are read in pieces; a lag must not hide between them."""
    true = curve(1)
    made = np.roll(true, lag)
    at = np.concatenate([np.arange(20, 145), np.arange(300, 425)])
    assert best_lag(lag_curve(made[at], true, at)) == lag
    assert len(lag_curve(made[at], true, at)) == 2 * LARGEST_LAG + 1


def test_other_sounds_correlate_by_chance_only() -> None:
    """A model that moves its mouth anyhow would look in sync."""
    assert scores(curve(0, 3000), curve(0, 3000))["chance"] < 0.1


def test_silence_begins_when_the_lips_have_had_time_to_close() -> None:
    """Closing lips are not open ones."""
    true = np.zeros(20)
    true[8] = 1
    assert np.flatnonzero(~silent(true)).tolist() == list(range(5, 12))


def test_change_does_not_depend_on_the_pieces_it_came_in() -> None:
    """Blocks, requests and files cut a stream differently."""
    frames = np.random.default_rng(0).integers(0, 255, (53, 8, 8, 3), np.uint8)
    whole, cut = ChangeMeter(), ChangeMeter()
    whole.add(frames)
    for part in np.split(frames, [1, 3, 12, 13, 40]):
        cut.add(part)
    assert whole.at == cut.at == 53
    for name, value in whole.figures().items():
        assert cut.figures()[name] == pytest.approx(value), name


def test_change_is_counted_where_it_happens() -> None:
    """Flicker at borders of latents or blocks would pass for motion."""
    frames = np.full((120, 8, 8, 3), 100, np.uint8)
    frames[np.arange(120) // 12 % 2 == 1] += 6  # jumps by 6 from block to block
    meter = ChangeMeter()
    meter.add(frames)
    found = meter.figures()
    assert found["change_seam"] == 6
    assert found["change_inside"] == found["change_other_border"] == 0
    # Frames 4 apart differ by 6 four times in each twelve: no more than at the seam.
    assert found["change_slow"] == pytest.approx(2, abs=0.2)
    still = np.ones((8, 8), bool)
    assert flicker(frames[:48], 0, still) == pytest.approx(6 * 3 / 11)  # borders 4, 8 … 44
    assert np.isnan(flicker(frames[:48], 0, ~still))


def test_box_sums_are_sums_over_squares() -> None:
    """Everything about colours rests on them."""
    values = np.random.default_rng(0).random((2, 9, 9))
    found = box_sum(values, 2)
    for y, x in ((0, 0), (4, 5), (8, 3)):
        square = values[:, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
        np.testing.assert_allclose(found[:, y, x], square.sum((1, 2)))


def two_halves() -> Drawing:
    """Background above, skin below, in the middle of the range."""
    regions = np.zeros((3, SIZE, SIZE), np.uint8)
    regions[:, SIZE // 2 :] = REGIONS.index("skin")
    frames = np.full((3, SIZE, SIZE, 3), 120, np.float32)
    return Drawing(frames, regions, np.ones(regions.shape, bool))


def test_a_colour_that_is_off_counts_in_full_in_its_region_alone() -> None:
    """A drift of the skin must not hide behind a good background."""
    drawn = two_halves()
    frames = drawn.frames.astype(np.uint8)
    frames[:, SIZE // 2 :] += 4
    found = colour_errors(frames, drawn)
    assert found["skin"] == pytest.approx(4)
    assert found["background"] == 0
    assert np.isnan(found["hair"])


def test_fine_texture_counts_little_and_one_odd_frame_not_at_all() -> None:
    """A pose that was misread once must not look like a wrong colour."""
    drawn = two_halves()
    frames = drawn.frames.astype(np.uint8)
    checks = np.indices((SIZE, SIZE)).sum(0) % 2 == 1
    frames[:, checks] += 8
    frames[:, ~checks] -= 8
    frames[1] = 0
    assert colour_errors(frames, drawn)["skin"] < 2.5


def test_shrinking_takes_the_rim_of_a_region_but_not_of_the_picture() -> None:
    """Edges a fraction of a pixel off would count as colour errors."""
    mask = np.zeros((1, 8, 8), bool)
    mask[0, :4] = True
    assert shrunk(mask, 1)[0].all(1).tolist() == [True] * 3 + [False] * 5


def test_sharpness_falls_with_blur() -> None:
    """A blurred video would score well in everything else."""
    frames = np.random.default_rng(0).integers(0, 255, (2, SIZE, SIZE, 3), np.uint8)
    regions = np.ones(frames.shape[:3], np.uint8)
    blurred = box_sum(frames.astype(np.float32), 1) / 9
    assert sharpness(blurred, regions) < 0.5 * sharpness(frames, regions)


def test_a_frame_looks_most_like_its_own_character() -> None:
    """Streams could slide into another face."""
    own, near, far = (two_halves() for _ in range(3))
    near.frames[:, SIZE // 2 :] += 20
    far.frames[:, SIZE // 2 :] += 60
    seen = own.frames[0].copy()
    seen[SIZE // 2 :] += 5
    rank, margin = likeness(seen, own, [near, far])
    assert rank == 1
    assert margin == pytest.approx(1 - 5 / 15, abs=0.01)
    assert likeness(near.frames[0], own, [near, far])[0] == 2


def test_seeds_that_move_alike_have_no_diversity() -> None:
    """One performance for every seed would go unnoticed."""
    t = np.linspace(0, 6, 50)
    runs = [{"pose_x": np.sin(t), "pose_y": t * 0, "true_pose_x": np.sin(t + phase),
             "true_pose_y": t * 0} for phase in (0, 1, 2)]  # fmt: skip
    found = diversity(runs)
    assert found["diversity"] == 0
    assert found["diversity_true"] > 0.5


def runs_of(values: dict[tuple[int, int], float], name: str = "opening") -> dict:
    return {key: {name: value} for key, value in values.items()}


def test_seeds_are_averaged_before_faces_are_drawn_again() -> None:
    """More seeds must not pass for more faces."""
    one = runs_of({(face, 0): face / 10 for face in range(10)})
    many = runs_of({(face, seed): face / 10 for face in range(10) for seed in range(5)})
    estimates = [bootstrap(mean, [by_face(runs, "opening")]) for runs in (one, many)]
    assert estimates[0] == estimates[1]
    assert estimates[0].value == pytest.approx(0.45)
    assert estimates[0].low < 0.3 < 0.6 < estimates[0].high


def test_a_difference_is_paired_and_says_whether_it_discriminates() -> None:
    """Faces differ far more than settings do."""
    metric = BY_NAME["sync"]
    base = {(face, 0): 0.1 * (face % 8) for face in range(24)}
    noise = np.random.default_rng(0).normal(size=24) / 100
    worse = runs_of({key: value - 0.05 + noise[key[0]] for key, value in base.items()})
    alike = runs_of({key: value + noise[key[0]] - noise.mean() for key, value in base.items()})
    found = metric.worsening(worse, runs_of(base))
    assert found.value == pytest.approx(0.05, abs=0.01)
    assert says(found) == "worse"
    assert says(metric.worsening(runs_of(base), worse)) == "better"
    assert says(metric.worsening(alike, runs_of(base))) == "does not discriminate"
    assert says(metric.worsening({}, runs_of(base))) == "not measured"


def test_a_ratio_is_of_the_means() -> None:
    """One face that hardly moves would decide the motion energy."""
    found = bootstrap(ratio, [{0: 1.0, 1: 2.0}, {0: 0.01, 1: 2.99}])
    assert found.value == pytest.approx(1)


def test_the_worst_face_is_a_face_and_not_a_run() -> None:
    """One unlucky seed of a good face is not a bad face."""
    runs = runs_of({(0, 0): 0.9, (0, 1): 0.5, (1, 0): 0.65, (1, 1): 0.66})
    found = worst_face(runs, "opening")
    assert (found.value, found.low, found.high) == (pytest.approx(0.655), 0.65, 0.66)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (Estimate(0.9, 0.87, 0.93), "passes, surely"),
        (Estimate(0.9, 0.8, 0.93), "passes, interval reaches beyond"),
        (Estimate(0.8, 0.7, 0.86), "FAILS, interval reaches inside"),
        (Estimate(0.8, 0.7, 0.84), "FAILS, surely"),
        (Estimate(float("nan"), float("nan"), float("nan")), "not measured"),
    ],
)
def test_a_gate_says_what_its_interval_allows(found: Estimate, verdict: str) -> None:
    """A lucky mean would be a pass, and a gate without data would be, too."""
    assert Gate("lip sync", 0.85, np.inf, found).verdict == verdict
