"""Colours and parts that characters are put together from. RGB 0 to 255, as drawn by hand."""

Colour = tuple[float, float, float]
"""RGB in [0, 1], as everything is painted."""

SKINS = {
    "pale": (250, 220, 200), "fair": (244, 198, 164), "tan": (228, 174, 130),
    "olive": (206, 154, 108), "brown": (168, 112, 76), "dark": (122, 80, 58),
}  # fmt: skip
HAIRS = {
    "black": (44, 38, 44), "brown": (98, 58, 42), "chestnut": (142, 84, 52),
    "blond": (232, 192, 112), "red": (188, 82, 44), "grey": (158, 160, 168),
    "white": (236, 232, 226), "pink": (236, 132, 164), "blue": (70, 108, 180),
    "green": (74, 142, 112),
}  # fmt: skip
HAIR_WEIGHTS = (6, 6, 4, 4, 3, 2, 1, 1, 1, 1)
CLOTH = {
    "red": (222, 88, 80), "orange": (240, 150, 76), "yellow": (244, 202, 88),
    "green": (92, 160, 108), "teal": (62, 146, 150), "blue": (76, 124, 196), "navy": (52, 66, 112),
    "purple": (136, 98, 172), "pink": (236, 146, 170), "white": (240, 238, 232),
    "grey": (136, 142, 152), "black": (54, 56, 66),
}  # fmt: skip
WALL = {
    "teal": (120, 190, 196), "blue": (130, 172, 222), "navy": (66, 84, 130),
    "green": (154, 198, 146), "yellow": (246, 218, 136), "orange": (244, 178, 124),
    "pink": (246, 186, 196), "purple": (174, 154, 208), "grey": (190, 196, 204),
    "cream": (244, 232, 210), "white": (246, 246, 244),
}  # fmt: skip
EYES = {
    "brown": (104, 66, 44), "green": (74, 128, 88), "blue": (72, 122, 176), "grey": (106, 118, 130),
}  # fmt: skip
CUTS = (
    *("short", "side", "quiff", "spiky", "buzz", "bob", "fringe", "long", "wavy", "curly"),
    *("bun", "ponytail", "bald"),
)
CUT_WEIGHTS = (3, 3, 2, 2, 1.5, 3, 3, 3, 3, 3, 2, 2, 1)
SHORT_CUTS = ("short", "side", "quiff", "spiky", "buzz", "curly", "bald")
GARMENTS = ("T-shirt", "shirt", "jumper", "hoodie", "jacket", "V-neck")
CLOTH_PATTERNS = ("plain", "striped", "dotted")
BACKGROUNDS = ("plain", "gradient", "striped", "dotted", "disc", "two-tone")
GLASSES = ("none", "round", "square")
BEARDS = ("none", "stubble", "full beard", "goatee", "moustache")


def mix(a: Colour, b: Colour, weight: float) -> Colour:
    """`weight` of b, the rest of a."""
    r, g, bl = (x + (y - x) * weight for x, y in zip(a, b, strict=True))
    return (r, g, bl)
