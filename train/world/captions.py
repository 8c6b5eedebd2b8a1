"""One sentence about what can be seen: mood, hair, glasses, beard, clothes, wall."""

import numpy as np

from train.world.identity import Identity
from train.world.palettes import TABLES, WORDS


def article(words: str) -> str:
    """The words with "a" or "an" before them."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def looks(who: Identity) -> list[str]:
    """Hair first, then what is on the face."""
    parts = [WORDS["cut"][who.cut].format(who.hair_name)]
    if who.glasses != "none":
        parts.append(f"{who.glasses} glasses")
    if who.beard != "none":
        parts.append(who.beard if who.beard == "stubble" else article(who.beard))
    if who.freckles:
        parts.append("freckles")
    return parts


def clothes(who: Identity) -> str:
    plain = who.cloth_pattern == "plain" or who.garment == "jacket"
    pattern = "" if plain else f"{who.cloth_pattern} "
    return article(f"{pattern}{who.cloth_name} {who.garment}")


def caption(who: Identity, mood: str, seed: int) -> str:
    """What is visible, in one of a few orders of words."""
    orders = TABLES["sentences"]
    order = orders[int(np.random.default_rng([seed, 0xCA]).integers(len(orders)))]
    wall = article(WORDS["background"][who.background].format(who.wall_name))
    words = order.format(
        mood=article(mood), looks=_joined(looks(who)), clothes=clothes(who), wall=wall
    )
    return words[0].upper() + words[1:]
