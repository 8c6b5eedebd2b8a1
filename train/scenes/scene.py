"""A scene from a seed: a character, what it does, and what is around it.

Splits differ in characters, and in which words meet: some pairs of words are kept for development
and test (`PAIRS`). A scene to learn from has none of them; one of a later split has at least one of
its own.
"""

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from train.world.clips import SPLITS, identity_seed
from train.world.identity import COLOURS, WORDS, Colour, Identity, identity

TABLES = tomllib.loads(Path(__file__).with_name("scenes.toml").read_text())
WEIGHTS = TABLES["weights"]
SHORT_CUTS = ("short", "spiky", "curly", "bald")
WALLS = ("plain", "striped", "dotted")
COLOURED = ("balloon", "ball")  # of what passes
CHOICES: dict[str, tuple[str, ...]] = {
    "mood": tuple(WEIGHTS["mood"]),
    "hair_name": tuple(TABLES["hair_colours"]),
    "cut": tuple(WEIGHTS["cut"]),
    "glasses": tuple(WEIGHTS["glasses"]),
    "beard": tuple(WEIGHTS["beard"]),
    "garment": tuple(WEIGHTS["garment"]),
    "cloth_name": tuple(TABLES["cloth_colours"]),
    "cloth_pattern": tuple(WEIGHTS["cloth_pattern"]),
    "place": tuple(WEIGHTS["place"]),
    "wall_name": tuple(TABLES["wall_colours"]),
    "light": tuple(WEIGHTS["light"]),
    "action": tuple(WEIGHTS["action"]),
    "passing": tuple(WEIGHTS["passing"]),
    "passing_name": tuple(TABLES["colours"]["passing"]),
}
"""All that a prompt can say: attribute -> its values."""
PAIRS = (("hair_name", "cloth_name"), ("cut", "wall_name"), ("passing", "action"))
KEPT = 10  # of so many pairs of words one is kept for development and one for test
APART = 0.42  # sum of absolute differences from which two colours can be told

Words = dict[str, str]  # attribute -> its value; what is not seen is missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All that does not move. What moves is in `train.scenes.motion`."""

    key: int  # of its character; decides everything else, too
    who: Identity
    words: Words

    @property
    def outdoors(self) -> bool:
        return self.words["place"] not in WALLS

    @property
    def passing_colour(self) -> Colour:
        return _rgb(TABLES["colours"]["passing"][self.words["passing_name"]])


def _rgb(values: list[int]) -> Colour:
    r, g, b = (value / 255 for value in values)
    return (r, g, b)


def kept_for(words: Words) -> set[str]:
    """The splits other than "train" that a scene's pairs of words belong to."""
    found = set()
    for one, other in PAIRS:
        if one not in words or other not in words:
            continue
        first, second = (CHOICES[name].index(words[name]) for name in (one, other))
        turn = (3 * first + second) % KEPT
        found |= {SPLITS[turn + 1]} if turn < len(SPLITS) - 1 else set()
    return found


def scene(seed: int, split: str) -> Scene:
    """The scene of a seed of a split; ValueError as `train.world.clips.identity_seed`."""
    key = identity_seed(seed, split)
    rng = np.random.default_rng([key, 0x5CE])
    while True:
        words = draw_words(rng)
        wanted = {split} - {"train"}
        if kept_for(words) != wanted:
            continue
        if (made := _shown(key, words, rng)) is not None:
            return made


def scene_of(words: Words, key: int) -> Scene | None:
    """A character's scene with given words; None if its colours cannot be told apart."""
    return _shown(key, words, np.random.default_rng([key, 0x5CE]))


def _shown(key: int, words: Words, rng: np.random.Generator) -> Scene | None:
    made = Scene(key=key, who=_character(key, words, rng), words=words)
    return made if _can_be_told(made) else None


def draw_words(rng: np.random.Generator) -> Words:
    """Without what cannot be seen: the hair of the bald, the colour of the sky."""
    words = {}
    for name, values in CHOICES.items():
        weights = np.array([*WEIGHTS.get(name, dict.fromkeys(values, 1)).values()], float)
        words[name] = str(rng.choice(values, p=weights / weights.sum()))
    if words["cut"] not in SHORT_CUTS:
        words["beard"] = "none"
    if words["cut"] == "bald":
        del words["hair_name"]
    if words["garment"] == "jacket":
        words["cloth_pattern"] = "plain"
    if words["place"] not in WALLS:
        del words["wall_name"]
    if words["passing"] not in COLOURED:
        del words["passing_name"]
    return words


def _character(key: int, words: Words, rng: np.random.Generator) -> Identity:
    """The face of a key with the looks that words ask for."""
    who = identity(key)

    def colour(field: str, name: str) -> Colour:
        r, g, b = np.clip(
            np.asarray(COLOURS[field][name]) / 255 + rng.uniform(-0.02, 0.02, 3), 0, 1
        )
        return (float(r), float(g), float(b))

    hair_name, wall_name = words.get("hair_name", "black"), words.get("wall_name", "grey")
    cloth, wall = colour("cloth_name", words["cloth_name"]), colour("wall_name", wall_name)
    light = (0.98, 0.97, 0.94) if float(np.mean(cloth)) < 0.6 else (0.25, 0.25, 0.35)
    second = (0.1, 0.12, 0.25) if float(np.mean(wall)) > 0.55 else (1.0, 1.0, 1.0)
    return dataclasses.replace(
        who,
        hair_name=hair_name,
        hair=colour("hair_name", hair_name),
        cut=words["cut"],
        glasses=words["glasses"],
        beard=words["beard"],
        lashes=who.lashes and words["beard"] == "none",
        earrings=who.earrings and words["beard"] == "none",
        freckles=False,
        garment=words["garment"],
        cloth_name=words["cloth_name"],
        cloth=cloth,
        cloth_second=_mixed(cloth, light, 0.6),
        cloth_pattern=words["cloth_pattern"],
        background=words["place"] if words["place"] in WALLS else "plain",
        wall_name=wall_name,
        wall=wall,
        wall_second=_mixed(wall, second, 0.3),
    )


def _mixed(a: Colour, b: Colour, weight: float) -> Colour:
    r, g, bl = (x + (y - x) * weight for x, y in zip(a, b, strict=True))
    return (r, g, bl)


def _can_be_told(made: Scene) -> bool:
    """Whether neighbouring colours differ: hair and skin, clothes and skin, what is on the wall."""
    who = made.who
    pairs = [(who.cloth, who.skin)]
    if "hair_name" in made.words:
        pairs.append((who.hair, who.skin))
    if not made.outdoors:
        pairs += [(who.wall, who.skin), (who.wall, who.cloth)]
        pairs += [(who.wall, who.hair)] if who.cut != "bald" else []
    if "passing_name" in made.words and not made.outdoors:
        pairs.append((who.wall, made.passing_colour))
    return all(float(np.abs(np.subtract(a, b)).sum()) > APART for a, b in pairs)


def hair_words(words: Words) -> str:
    return str(TABLES["words"]["cut"].get(words["cut"], WORDS["cut"][words["cut"]])).format(
        words.get("hair_name", "")
    )
