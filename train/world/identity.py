"""Who is drawn, every choice of one face from one seed, and the sentence that says what is seen.

Lengths are in picture units (the picture is two units wide). Colours are RGB in [0, 1].
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Colour = tuple[float, float, float]  # RGB in [0, 1], as everything is painted

TABLES = tomllib.loads(Path(__file__).with_name("palettes.toml").read_text())
"""What characters are put together from."""
COLOURS, WEIGHTS, WORDS = (TABLES[kind] for kind in ("colours", "weights", "words"))
"""By fields of `Identity` and their values."""


def mix(a: Colour, b: Colour, weight: float) -> Colour:
    """`weight` of b, the rest of a."""
    r, g, bl = (x + (y - x) * weight for x, y in zip(a, b, strict=True))
    return (r, g, bl)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One character. What does not move is here; what moves is in `train.world.motion`."""

    seed: int
    skin: Colour
    hair: Colour
    hair_name: str
    cut: str
    hair_volume: float
    flip: int  # -1 or 1: the side of partings, ponytails and light
    iris: Colour
    eye_name: str
    eye_size: tuple[float, float]
    eye_gap: float  # half the distance between the pupils
    eye_dots: bool  # plain dark eyes without a white
    lashes: bool
    brow_width: float
    brow_arch: float
    glasses: str
    glasses_colour: Colour
    beard: str
    freckles: bool
    earrings: bool
    face_width: float
    jaw: float
    chin: float
    nose: str
    mouth_width: float
    lip: Colour
    lip_height: float
    garment: str
    cloth: Colour
    cloth_name: str
    cloth_second: Colour
    cloth_pattern: str
    background: str
    wall: Colour
    wall_name: str
    wall_second: Colour
    outline: float  # width of the ink line around shapes; 0 for the flat style
    shading: float  # strength of shadows and cheeks, [0, 1]


class _Chance:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng([seed, 0x1DE])

    def of(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def name(self, names: Iterable[str], weights: Iterable[float] | None = None) -> str:
        p = None if weights is None else np.array([*weights], float)
        names = [*names]
        return names[int(self.rng.choice(len(names), p=p if p is None else p / p.sum()))]

    def weighted(self, field: str) -> str:
        return self.name(WEIGHTS[field], WEIGHTS[field].values())

    def colour(self, field: str, name: str, spread: float) -> Colour:
        shifted = np.asarray(COLOURS[field][name]) / 255 + self.rng.uniform(-spread, spread, 3)
        r, g, b = np.clip(shifted * self.between(0.95, 1.04), 0, 1)
        return (float(r), float(g), float(b))

    def apart(self, field: str, others: list[Colour]) -> tuple[str, Colour]:
        """A colour that can be told from the others; the best of many tries if none can."""
        tries = [self.name(COLOURS[field]) for _ in range(24)]
        colours = [self.colour(field, name, 0.02) for name in tries]
        gaps = [min(float(np.abs(np.subtract(c, o)).sum()) for o in others) for c in colours]
        pick = next((i for i, gap in enumerate(gaps) if gap > 0.5), int(np.argmax(gaps)))
        return tries[pick], colours[pick]


def identity(seed: int) -> Identity:
    """The character of a seed >= 0; the same seed gives the same character for ever."""
    c = _Chance(seed)
    skin = c.colour("skin", c.name(COLOURS["skin"]), 0.015)
    hair_name = c.weighted("hair_name")
    hair = c.colour("hair_name", hair_name, 0.02)
    cut = c.weighted("cut")
    if float(np.abs(np.subtract(hair, skin)).sum()) < 0.35:  # a head of one colour has no hair
        hair_name, hair = "black", c.colour("hair_name", "black", 0.02)
    wall_name, wall = c.apart("wall_name", [skin, hair])
    cloth_name, cloth = c.apart("cloth_name", [wall, skin])
    bearded = cut in TABLES["short_cuts"] and c.of(0.5)
    lipstick = not bearded and c.of(0.35)
    blood = (0.66, 0.16, 0.22) if float(np.mean(skin)) > 0.5 else (0.74, 0.30, 0.33)
    lip = (0.80, 0.26, 0.32) if lipstick else mix(skin, blood, 0.55)
    light = float(np.mean(wall)) > 0.55
    eye_name = c.name(COLOURS["eye_name"])
    return Identity(
        seed=seed,
        skin=skin,
        hair=hair,
        hair_name=hair_name,
        cut=cut,
        hair_volume=c.between(0.9, 1.12),
        flip=1 if c.of(0.5) else -1,
        iris=c.colour("eye_name", eye_name, 0.03),
        eye_name=eye_name,
        eye_size=(c.between(0.118, 0.142), c.between(0.105, 0.145)),
        eye_gap=c.between(0.225, 0.262),
        eye_dots=c.of(0.12),
        lashes=not bearded and c.of(0.5),
        brow_width=c.between(0.045, 0.075),
        brow_arch=c.between(0.02, 0.07),
        glasses=c.weighted("glasses"),
        glasses_colour=mix((0.16, 0.14, 0.18), c.colour("cloth_name", "red", 0.2), 0.3 * c.of(0.4)),
        beard=c.weighted("beard") if bearded else "none",
        freckles=c.of(0.1),
        earrings=not bearded and c.of(0.3),
        face_width=c.between(0.53, 0.62),
        jaw=c.between(0.33, 0.45),
        chin=c.between(0.64, 0.72),
        nose=c.name(TABLES["nose"]),
        mouth_width=c.between(0.25, 0.30),
        lip=lip,
        lip_height=c.between(0.045, 0.065) if lipstick else c.between(0.034, 0.046),
        garment=c.name(TABLES["garment"]),
        cloth=cloth,
        cloth_name=cloth_name,
        cloth_second=mix(cloth, (0.98, 0.97, 0.94) if float(np.mean(cloth)) < 0.6 else hair, 0.6),
        cloth_pattern=c.weighted("cloth_pattern"),
        background=c.weighted("background"),
        wall=wall,
        wall_name=wall_name,
        wall_second=mix(wall, (0.1, 0.12, 0.25) if light else (1, 1, 1), c.between(0.10, 0.20)),
        outline=c.between(0.018, 0.030) * c.of(0.18),
        shading=c.between(0.35, 1.0),
    )


def article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


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
    *most, last = looks(who)
    wall = article(WORDS["background"][who.background].format(who.wall_name))
    shown = f"{', '.join(most)} and {last}" if most else last
    words = order.format(mood=article(mood), looks=shown, clothes=clothes(who), wall=wall)
    return words[0].upper() + words[1:]
