"""The drawn world of text to video: splits, words, motion, pictures."""

from dataclasses import replace

import numpy as np
import pytest

from train.scenes.clips import draw
from train.scenes.motion import FPS, moves
from train.scenes.scene import CHOICES, PAIRS, kept_for, scene
from train.scenes.words import UNSAID, caption, parts, prompt, said

SEEDS = range(24)


def pairs_of(split: str) -> set[tuple[str, str, str]]:
    found = set()
    for seed in range(150):
        words = scene(seed, split).words
        found |= {(a, words[a], words[b]) for a, b in PAIRS if a in words and b in words}
    return found


def test_what_is_judged_has_pairs_of_words_that_nothing_learned_from() -> None:
    """Prompts would be judged that were learned by heart."""
    train = pairs_of("train")
    for split in ("dev", "test"):
        for seed in SEEDS:
            words = scene(seed, split).words
            own = {(a, words[a], words[b]) for a, b in PAIRS if a in words and b in words}
            assert own - train, (split, seed)
            assert kept_for(words) == {split}


def test_a_scene_is_the_same_for_ever() -> None:
    """Shards and words would not belong together."""
    for seed in (0, 7):
        assert scene(seed, "train") == scene(seed, "train")
        assert scene(seed, "train").who.seed != scene(seed, "dev").who.seed


@pytest.mark.parametrize("seed", [0, 3, 5, 9])
def test_a_longer_scene_begins_with_the_shorter_one(seed: int) -> None:
    """Clips of other lengths would be of another world."""
    made = scene(seed, "train")
    short, long = moves(made, 20), moves(made, 90)
    curves = [
        (of.pose.turn, of.expression.lid, of.mouth.opening, of.passing) for of in (short, long)
    ]
    for one, other in zip(*curves, strict=True):
        np.testing.assert_allclose(one, other[:20], atol=1e-6)


def test_captions_say_all_that_is_seen() -> None:
    """The network would have to guess, and be judged by what it was never told."""
    for seed in SEEDS:
        words = scene(seed, "train").words
        told, text = said(words, parts(words)), caption(words).lower()
        unsaid = {n for n, value in words.items() if UNSAID.get(n) == value}
        assert set(words) - set(told) <= unsaid
        for name in ("hair_name", "wall_name", "passing_name", "cloth_name"):
            assert told.get(name, "") in text


def test_prompts_say_what_they_claim() -> None:
    """A reading would be counted as wrong, or right, of what nobody asked for."""
    rng, lengths = np.random.default_rng(0), []
    for seed in range(120):
        text, told = prompt(scene(seed % 24, "train").words, rng)
        lengths.append(len(text))
        for name in ("mood", "hair_name", "cloth_name", "wall_name", "light", "action"):
            if name in told:
                assert told[name].split()[0].lower() in text.lower(), (name, text)
        assert set(told) <= set(CHOICES)
    assert max(lengths) < 192
    assert min(lengths) < 40


def test_scenes_move() -> None:
    """Standing still would be as good as moving."""
    for seed in (1, 2):
        frames = draw(scene(seed, "train"), FPS).frames.astype(np.int16)
        assert frames.shape == (FPS, 96, 96, 3)
        assert np.abs(np.diff(frames, axis=0)).mean() > 0.3


def test_light_and_what_passes_are_seen() -> None:
    """Words would be learned that nothing shows."""
    seeds = (scene(seed, "train") for seed in range(99))
    made = next(each for each in seeds if each.words["passing"] == "ball")

    def shown(**changed: str) -> np.ndarray:
        return draw(replace(made, words=made.words | changed), 48).frames[::8].astype(np.int16)

    whole = shown()
    others = ({"light": "warm"}, {"light": "cold"}, {"passing": "nothing"}, {"passing": "bird"})
    for changed in others:
        if changed.items() <= made.words.items():
            continue
        assert np.abs(shown(**changed) - whole).max() > 30, changed
