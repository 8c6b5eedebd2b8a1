"""The judgement of text to video on streams whose faults are known."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from train.evaluate.run import Score
from train.rolling.evaluate.colours import Palette
from train.rolling.evaluate.gates import METRICS, SERVED, gates, protocol
from train.rolling.evaluate.prompts import Asked, asked, most_frequent, spoken
from train.rolling.evaluate.score import (
    AFTER_S,
    FPS,
    PIECE,
    SWITCH,
    StreamScore,
    SwitchScore,
    diversity,
    motion,
    seconds_until,
)
from train.rolling.evaluate.sources import drawn
from train.rolling.evaluate.words import held, shuffled, words_read
from train.scenes.scene import CHOICES, Words

SIZE = 96
pytestmark = pytest.mark.usefixtures("one_thread")


class Stub(nn.Module):
    """Reads one set of words from dark videos and another one from bright ones."""

    def __init__(self, dark: Words, bright: Words) -> None:
        super().__init__()
        self.words = dark, bright

    def forward(self, video: Tensor) -> dict[str, Tensor]:
        bright = (video.mean((1, 2, 3, 4)) > 0).int().tolist()
        return {
            name: torch.stack([self.logits(name, self.words[each]) for each in bright])
            for name in CHOICES
        }

    @staticmethod
    def logits(name: str, words: Words) -> Tensor:
        values = CHOICES[name]
        wanted = values.index(words[name]) if name in words else 0
        return nn.functional.one_hot(torch.tensor(wanted), len(values)).float()


@pytest.fixture(scope="module")
def first() -> Asked:
    return asked(0, "test")


@pytest.fixture(scope="module")
def true(first: Asked) -> np.ndarray:
    """Ten seconds of the first prompt's scene."""
    return drawn(first, 0, 0, 2 * PIECE, False)


def reading(words: Words, times: int = 1) -> dict[str, Tensor]:
    """Logits from which these words are read."""
    return {name: Stub.logits(name, words).expand(times, -1) for name in CHOICES}


def scored(first: Asked, frames: np.ndarray, length: int = 12) -> Score:
    """The score of a stream that comes block by block; its words are read as asked."""
    words = first.scene.words
    score = StreamScore(first, Stub(words, words), len(frames), [10])
    for start in range(0, len(frames), length):
        score.add(frames[start : start + length])
    return score.finish()


def still(frames: np.ndarray) -> np.ndarray:
    return np.repeat(frames[:1], len(frames), 0)


def found(frames: np.ndarray, beside: np.ndarray, first: Asked) -> dict[str, float]:
    """Figures of a stream with the truth's beside."""
    true = scored(first, beside).figures
    return scored(first, frames).figures | {"change_true": true["change"]}


def test_the_truth_passes_and_a_still_picture_fails_motion(first: Asked, true: np.ndarray) -> None:
    """A stream that stands still has no drift, no flicker, and all of its words."""
    moving, standing = (found(frames, true, first) for frames in (true, still(true)))
    assert gates({(0, 0): moving})["motion"].passed
    judged = gates({(0, 0): standing})
    assert judged["words_seen"].passed
    assert judged["motion"].passed is False
    assert standing["drift_10s"] == standing["flicker"] == standing["change"] == 0


@pytest.mark.parametrize("levels", [0, 1, 4, 15])
def test_a_drift_of_colours_is_measured_as_what_it_is(
    levels: int, first: Asked, true: np.ndarray
) -> None:
    """A gate of two grey levels would mean something else."""
    late = np.clip(true.astype(int), 0, 255 - levels) + levels
    frames = np.concatenate([true[:PIECE], late[PIECE:].astype(np.uint8)])
    assert scored(first, frames).figures["drift_10s"] == pytest.approx(levels, abs=0.5)


@pytest.mark.parametrize("number", [1, 9])
def test_motion_is_no_drift_of_colours(number: int) -> None:
    """Whoever looks around or sways would seem to change colour: in a grid by up to 40 levels."""
    each = asked(number, "test")
    begun, later = (drawn(each, 0, at, at + PIECE, False) for at in (0, 240))
    assert Palette(begun).drift(later) < 1


def test_a_drift_of_one_region_is_not_averaged_away() -> None:
    """A face that turns green before a wall that stays."""
    frames = np.full((PIECE, SIZE, SIZE, 3), 200, np.uint8)
    frames[:, 30:60, 30:60] = (180, 120, 90)
    later = frames.copy()
    later[:, 30:60, 30:60, 1] += 9
    assert Palette(frames).drift(later) == pytest.approx(3)


def test_noise_has_a_colour_and_a_colour_that_is_gone_has_moved() -> None:
    """A stream that falls to pieces would have no drift to speak of."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (PIECE, SIZE, SIZE, 3), np.uint8)
    assert Palette(noise).drift(noise) < 0.1
    wall = np.full_like(noise, 200)
    assert Palette(wall).drift(np.full_like(noise, 90)) == pytest.approx(110)
    assert Palette(wall).drift(noise) > 2


def test_a_stream_that_loses_its_edges_fails_sharpness(first: Asked, true: np.ndarray) -> None:
    """Blur would count as calm."""

    def blurred(frames: np.ndarray) -> np.ndarray:
        rows = frames.astype(np.float32)
        return ((np.roll(rows, 1, 1) + rows + np.roll(rows, 1, 2)) / 3).astype(np.uint8)

    figures = scored(first, np.concatenate([true[:PIECE], blurred(true[PIECE:])])).figures
    assert figures["sharpness_10s"] < 0.8 * figures["sharpness_start"]
    kept = scored(first, true).figures
    assert kept["sharpness_10s"] == pytest.approx(kept["sharpness_start"], rel=0.05)


def test_flicker_is_measured_where_nothing_moves() -> None:
    """Noise at every latent would be lost in what moves."""
    frames = np.full((PIECE, SIZE, SIZE, 3), 100, np.uint8)
    latent = (np.arange(PIECE) + 3) // 4  # a stream's first latent is one frame
    frames[latent % 2 == 1] += 3
    figures = motion(frames, 0)
    assert figures["flicker"] == 3
    assert (figures["change_border"], figures["change_inside"]) == (3, 0)
    assert motion(frames, PIECE)["flicker"] == 3


def test_motion_is_that_of_160_ms() -> None:
    """At 16 frames a second that is between two frames and three."""
    frames = np.zeros((PIECE, SIZE, SIZE, 3), np.uint8) + np.arange(PIECE, dtype=np.uint8)[
        :, None, None, None]  # fmt: skip
    assert motion(frames, 0)["change"] == pytest.approx(2.56)


def test_pieces_do_not_depend_on_how_frames_come(first: Asked, true: np.ndarray) -> None:
    """Blocks of 9 and of 12 frames would be scored as different streams."""
    blocks, whole = scored(first, true, 12), scored(first, true, len(true))
    assert blocks.figures == pytest.approx(whole.figures, nan_ok=True)
    assert blocks.pictures.shape == whole.pictures.shape
    with pytest.raises(RuntimeError, match="frames came"):
        StreamScore(first, Stub({}, {}), 2 * PIECE).finish()


def test_words_are_read_of_those_that_are_asked(first: Asked) -> None:
    """A model would be praised for what nobody asked of it."""
    seen = words_read(reading(first.scene.words, 3), first.words)
    assert seen.shape == (3, len(first.words))
    assert seen.all()
    name = next(iter(first.words))
    other = next(v for v in CHOICES[name] if v != first.words[name])
    assert words_read(reading(first.scene.words | {name: other}), first.words).sum() == (
        len(first.words) - 1
    )


def test_guessing_is_no_obedience(first: Asked) -> None:
    """A model that always draws the most frequent scene would seem to obey anyone."""
    others = [asked(i, "test").words for i in range(1, 6)]
    assert shuffled(reading(most_frequent()), others) == pytest.approx(0)
    assert shuffled(reading(others[0]), others[:1]) > 0.2
    assert np.isnan(shuffled(reading(first.words), []))


def test_identity_is_what_is_read_as_at_first(first: Asked) -> None:
    """A head that changes its hair after a minute would be called steady."""
    own = first.scene.words
    cut = next(v for v in CHOICES["cut"] if v != own["cut"])
    later = {name: torch.cat([reading(own)[name], reading(own | {"cut": cut})[name]])
             for name in CHOICES}  # fmt: skip
    named = [name for name in ("hair_name", "cut", "glasses") if name in own]
    assert held(later, own).tolist() == pytest.approx([1, 1 - 1 / len(named)])


def test_a_changed_word_counts_from_the_window_in_which_it_is_read(first: Asked) -> None:
    """Seconds would be too few, or a flash of the new colour would do."""
    score = SwitchScore(first, Stub(first.scene.words, first.changed.words))
    frames = np.zeros((SWITCH + AFTER_S * FPS, SIZE, SIZE, 3), np.uint8)
    frames[SWITCH + 2 * FPS :] = 255
    score.add(frames)
    figures = score.finish().figures
    # Half of the second that is looked at has to be new, and a window comes every quarter.
    assert 2.5 <= figures["switch_s"] <= 2.75
    assert figures["switched"] == figures["kept"] == 1
    flash = np.zeros(61, bool)
    flash[10:12] = True
    assert seconds_until(flash) == AFTER_S
    assert np.isnan(seconds_until(~flash)), "what was there before is no answer"


def test_a_change_of_prompt_names_one_thing_and_keeps_the_rest() -> None:
    """What stays could not be told from what was to change."""
    changes = [asked(i, "test") for i in range(8)]
    for each in changes:
        named = set(each.new_words)
        assert named
        assert not named & set(each.kept_words)
        assert set(spoken(each.scene.words)) - named - {"wall_name"} <= set(each.kept_words)
        assert each.prompt != each.changed_prompt
        assert each.scene.key == each.changed.key
    assert len({name for each in changes for name in each.new_words}) > 3


def test_two_truths_of_a_prompt_differ_in_what_it_leaves_open(first: Asked) -> None:
    """Diversity would be measured against a copy."""
    again = first.seen_again(1)
    assert again.words == first.scene.words
    assert again.key != first.scene.key
    assert first.seen_again(0) is first.scene
    small = [{"small": np.full((4, 12, 12, 3), value, np.uint8)} for value in (10, 14, 18)]
    assert diversity(small) == {"diversity": pytest.approx((4 + 4 + 8) / 3)}


def test_every_gate_is_a_metric_or_measured_on_the_server() -> None:
    """A gate could stay unmeasured for ever, or a slip of the pen pass unseen."""
    judged = gates({})
    assert all(gate.passed is None for gate in judged.values())
    assert len(judged) >= 10
    assert set(SERVED) <= set(judged)
    assert gates({}, {"megabytes": 11.0})["megabytes"].passed
    assert gates({}, {"megabytes": 13.0})["megabytes"].passed is False
    with pytest.raises(ValueError, match="measured is 'megabyte'"):
        gates({}, {"megabyte": 11.0})
    horizons = protocol().horizons_s
    assert {f"drift_{h}s" for h in horizons} <= {m.name for m in METRICS}


def test_intervals_are_over_prompts_and_not_over_seeds() -> None:
    """Three seeds of a prompt would count as three prompts."""
    runs = {(prompt, seed): {"words_seen": 0.75 + 0.1 * prompt}
            for prompt in range(3) for seed in range(3)}  # fmt: skip
    gate = gates(runs)["words_seen"]
    assert gate.found.num_faces == 3
    assert (gate.found.low, gate.found.high) == (pytest.approx(0.75), pytest.approx(0.95))
    assert gate.verdict == "passes, interval reaches beyond"
