"""Prompts: the whole caption of a scene, and what somebody might type."""

import numpy as np

from train.scenes.scene import TABLES, Words, hair_words
from train.world.identity import article

NOUNS = ("person", "character")
UNSAID = {"mood": "neutral", "glasses": "none", "beard": "none", "cloth_pattern": "plain",
          "light": "day", "action": "calm", "passing": "nothing"}  # fmt: skip
"""Values that have no words of their own, or need none."""
WHOLE_SHARE = 0.5  # of prompts to learn from, those that say everything
Part = tuple[str, tuple[str, ...]]  # words, and the attributes that they name


def parts(words: Words) -> list[Part]:
    """What can be said of a scene, piece by piece, in the order of a sentence."""

    def of(name: str, colour: str = "") -> str:
        return str(TABLES["words"][name][words[name]]).format(words.get(colour, ""))

    pattern = "" if words["cloth_pattern"] == "plain" else f"{words['cloth_pattern']} "
    clothes = article(f"{pattern}{words['cloth_name']} {words['garment']}")
    said: list[Part] = [
        (words["mood"], ("mood",)),
        (hair_words(words), ("hair_name", "cut")),
    ]
    if words["glasses"] != "none":
        said.append((f"{words['glasses']} glasses", ("glasses",)))
    if words["beard"] != "none":
        said.append((article(words["beard"]), ("beard",)))
    said.append((clothes, ("garment", "cloth_name", "cloth_pattern")))
    if words["action"] != "calm":
        said.append((of("action"), ("action",)))
    said.append((of("place", "wall_name"), ("place", "wall_name")))
    if words["light"] != "day":
        said.append((of("light"), ("light",)))
    if words["passing"] != "nothing":
        said.append((of("passing", "passing_name"), ("passing", "passing_name")))
    return said


def sentence(said: list[Part], noun: str = "person") -> str:
    """Parts as one sentence; "" if there is none."""
    if not said:
        return ""
    named = {names[0]: words for words, names in said}
    start = article(f"{named['mood']} {noun}") if "mood" in named else article(noun)
    looks = [named[n] for n in ("hair_name", "glasses", "beard") if n in named]
    text = start
    if looks:
        text += " with " + (f"{', '.join(looks[:-1])} and {looks[-1]}" if looks[1:] else looks[0])
    if "garment" in named:
        text += f" in {named['garment']}"
    if "action" in named:
        text += f", {named['action']}"
    if "place" in named:
        text += f", {named['place']}"
    if "light" in named:
        text += f", {named['light']}"
    if "passing" in named:
        text += f", {named['passing']}"
    return text[0].upper() + text[1:]


def caption(words: Words) -> str:
    """The sentence that says everything."""
    return sentence(parts(words))


def prompt(words: Words, rng: np.random.Generator, whole: float = WHOLE_SHARE) -> tuple[str, Words]:
    """A prompt for a scene and what it says: a share `whole` says everything, the others a part of
    it, in other words or in another order."""
    every = parts(words)
    if rng.random() < whole:
        return caption(words), said(words, every)
    kept = [part for part in every if rng.random() < 0.6]
    noun = NOUNS[int(rng.integers(len(NOUNS)))]
    if kept and rng.random() < 0.25:  # keywords
        order = rng.permutation(len(kept))
        text = ", ".join(kept[i][0] for i in order)
    else:
        text = sentence(kept, noun)
    style = rng.random()
    text = text.lower() if style < 0.3 else f"{text}." if text and style < 0.5 else text
    return text, said(words, kept)


def said(words: Words, told: list[Part]) -> Words:
    """What these parts say; clothes that are called neither striped nor dotted are plain."""
    names = {name for _, part in told for name in part}
    return {name: value for name, value in words.items() if name in names}
