"""One sentence about what can be seen: mood, hair, glasses, beard, clothes, wall."""

import numpy as np

from train.world.identity import Identity

_CUTS = {
    "short": "short {} hair",
    "side": "neat {} hair with a side parting",
    "quiff": "a {} quiff",
    "spiky": "spiky {} hair",
    "buzz": "very short {} hair",
    "bob": "a {} bob",
    "fringe": "{} hair with a fringe",
    "long": "long straight {} hair",
    "wavy": "long wavy {} hair",
    "curly": "curly {} hair",
    "bun": "{} hair in a bun",
    "ponytail": "a {} ponytail",
    "bald": "a bald head",
}
_WALLS = {
    "plain": "plain {} wall",
    "gradient": "{} gradient",
    "striped": "{} wall with stripes",
    "dotted": "{} wall with dots",
    "disc": "{} wall with a round spot",
    "two-tone": "{} wall in two tones",
}
_ORDERS = (
    "{mood} person with {looks}, wearing {clothes}, in front of {wall}.",
    "Portrait of {mood} person, {looks}, {clothes}, {wall} behind.",
    "In front of {wall}, {mood} person with {looks} and {clothes} is talking.",
    "A drawing of {mood} character: {looks}, {clothes}, {wall}.",
)


def article(words: str) -> str:
    """The words with "a" or "an" before them."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def looks(who: Identity) -> list[str]:
    """Hair first, then what is on the face."""
    parts = [_CUTS[who.cut].format(who.hair_name)]
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
    order = _ORDERS[int(np.random.default_rng([seed, 0xCA]).integers(len(_ORDERS)))]
    wall = article(_WALLS[who.background].format(who.wall_name))
    words = order.format(
        mood=article(mood), looks=_joined(looks(who)), clothes=clothes(who), wall=wall
    )
    return words[0].upper() + words[1:]
