"""Colours, parts and words that characters are put together from: the tables of `palettes.toml`."""

import tomllib
from pathlib import Path

Colour = tuple[float, float, float]
"""RGB in [0, 1], as everything is painted."""

TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
COLOURS, WEIGHTS, WORDS = (TABLES[kind] for kind in ("colours", "weights", "words"))
"""By fields of `train.world.identity.Identity` and their values."""


def mix(a: Colour, b: Colour, weight: float) -> Colour:
    """`weight` of b, the rest of a."""
    r, g, bl = (x + (y - x) * weight for x, y in zip(a, b, strict=True))
    return (r, g, bl)
