"""What streams are asked for: unseen prompts, the scenes that they are true of, and what each is
changed to in mid-stream."""

from collections import Counter
from dataclasses import dataclass
from functools import cache

import numpy as np

from train.scenes.behind import SKIES
from train.scenes.scene import CHOICES, Scene, Words, draw_words, scene, scene_of
from train.scenes.words import UNSAID, caption, parts, said
from train.world.clips import identity_seed

CHANGED = ("cloth_name", "hair_name", "place", "light", "mood", "glasses")
"""What prompts change, in turn: all of it is seen in a single frame."""
OTHERS = 500_000  # first seed of characters that are nobody's own scene
TRIES = 100  # seeds for one other character
COUNTED = 2000  # scenes whose words are counted


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """A prompt and its change."""

    number: int  # of the prompt: the seed of its scene in the split
    split: str
    scene: Scene  # as the prompt tells it
    changed: Scene  # the same character, as the changed prompt tells it

    @property
    def prompt(self) -> str:
        return caption(self.scene.words)

    @property
    def changed_prompt(self) -> str:
        return caption(self.changed.words)

    @property
    def words(self) -> Words:
        """What the prompt says."""
        return spoken(self.scene.words)

    @property
    def new_words(self) -> Words:
        """What the changed prompt says that the first one did not."""
        before = self.words
        return {n: v for n, v in spoken(self.changed.words).items() if before.get(n) != v}

    @property
    def kept_words(self) -> Words:
        """What both say."""
        after = spoken(self.changed.words)
        return {n: v for n, v in self.words.items() if after.get(n) == v}

    def seen_again(self, seed: int) -> Scene:
        """A truth with these words: seed 0 is the scene itself, others show other characters."""
        first = OTHERS + TRIES * (1000 * seed + self.number)
        found = [self.scene] if not seed else (
            scene_of(self.scene.words, identity_seed(first + i, self.split)) for i in range(TRIES)
        )  # fmt: skip
        return next(each for each in found if each is not None)


def asked(number: int, split: str) -> Asked:
    """Prompt `number` of a split. Its change names one thing, another one for the next prompt."""
    before = scene(number, split)
    rng = np.random.default_rng([before.key, 0xC4A6])
    turn = [CHANGED[(number + i) % len(CHANGED)] for i in range(len(CHANGED))]
    for name in turn:
        for value in rng.permutation(_values(before.words, name)):
            words = before.words | {name: str(value)}
            if name == "place":
                words.pop("wall_name", None)
            if (changed := scene_of(words, before.key)) is not None:
                return Asked(number=number, split=split, scene=before, changed=changed)
    raise AssertionError("a change of light can always be told")


def _values(words: Words, name: str) -> list[str]:
    """What a prompt may change `name` to; nothing if the scene does not show it."""
    if name not in words:
        return []
    values = SKIES if name == "place" else CHOICES[name]
    return [v for v in values if v not in (words[name], UNSAID.get(name))]


def spoken(words: Words) -> Words:
    """What the whole caption of a scene says, with words or without them by being plain."""
    return said(words, parts(words))


@cache
def most_frequent() -> Words:
    """Attribute -> the value that captions name most often: what one guesses without looking."""
    rng = np.random.default_rng(0)
    drawn = [spoken(draw_words(rng)) for _ in range(COUNTED)]
    return {
        name: Counter(words[name] for words in drawn if name in words).most_common(1)[0][0]
        for name in CHOICES
    }
