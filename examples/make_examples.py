"""Draw portrait.png and speak speech.flac, the inputs of the first run.

    python examples/make_examples.py portrait
    python examples/make_examples.py speech      # needs espeak-ng on the PATH

Both results are committed; this script is for whoever wants another face or another sentence.
Coordinates are pixels of the 512 x 512 picture, x to the right and y down.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

FOLDER = Path(__file__).parent
SIZE = 512
OVERSAMPLING = 4
"""Drawn this much larger and averaged down, which smooths every edge."""

TEXT = (
    "Hello! I am a drawing that has learned to talk. "
    "Every sound you hear moves my lips, block after block, "
    "for as long as you keep me company."
)
VOICE, WORDS_PER_MINUTE, RATE = "en-us+f3", 150, 16_000

Point = tuple[float, float]
Colour = tuple[int, int, int]
CENTRE = 256.0

BACKGROUND = (120, 190, 196)
SKIN, SKIN_SHADE, CHEEK = (244, 196, 160), (225, 165, 130), (238, 150, 124)
HAIR, HAIR_LIGHT = (92, 52, 40), (128, 76, 54)
SHIRT, SHIRT_SHADE, COLLAR = (236, 108, 86), (206, 86, 70), (252, 244, 232)
WHITE, INK, IRIS = (255, 253, 248), (52, 34, 34), (74, 116, 84)
LIP, LIP_DARK = (204, 88, 88), (150, 54, 60)


class Canvas:
    """Shapes in picture coordinates on an oversampled image."""

    def __init__(self) -> None:
        side = SIZE * OVERSAMPLING
        self.image = Image.new("RGB", (side, side), BACKGROUND)
        self._draw = ImageDraw.Draw(self.image)

    def polygon(self, points: list[Point], colour: Colour) -> None:
        self._draw.polygon([(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in points], fill=colour)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        box = [v * OVERSAMPLING for v in (x - rx, y - ry, x + rx, y + ry)]
        self._draw.ellipse(box, fill=colour)

    def stroke(self, points: list[Point], width: float, colour: Colour) -> None:
        """A line with round ends, thinner towards both of them."""
        for i, (x, y) in enumerate(points):
            radius = width / 2 * (0.55 + 0.45 * math.sin(math.pi * i / (len(points) - 1)))
            self.ellipse(x, y, radius, radius, colour)

    def glow(
        self, x: float, y: float, rx: float, ry: float, colour: Colour, opacity: float
    ) -> None:
        """A soft spot."""
        mask = Image.new("L", self.image.size, 0)
        box = [v * OVERSAMPLING for v in (x - rx, y - ry, x + rx, y + ry)]
        ImageDraw.Draw(mask).ellipse(box, fill=round(255 * opacity))
        mask = mask.filter(ImageFilter.GaussianBlur(OVERSAMPLING * rx / 3))
        self.image.paste(Image.new("RGB", self.image.size, colour), mask=mask)

    def finished(self) -> Image.Image:
        return self.image.resize((SIZE, SIZE), Image.Resampling.BOX)


def curve(*controls: Point) -> list[Point]:
    """A smooth line through all control points."""
    return _catmull_rom([controls[0], *controls, controls[-1]])


def outline(*half: Point) -> list[Point]:
    """A smooth closed line, from the right half of its control points listed top to bottom."""
    left = [(2 * CENTRE - x, y) for x, y in reversed(half) if x != CENTRE]
    around = [*half, *left]
    return _catmull_rom([around[-1], *around, *around[:2]])


def _catmull_rom(controls: list[Point], steps: int = 40) -> list[Point]:
    """Points from the second control point to the last but one."""
    t = np.linspace(0, 1, steps)[:, None]
    points: list[Point] = []
    for a, b, c, d in zip(*(np.array(controls[i:], float) for i in range(4)), strict=False):
        cubic = 3 * b - a - 3 * c + d
        span = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + cubic * t**3)
        points += [(float(x), float(y)) for x, y in span]
    return points


def draw_portrait() -> Image.Image:
    canvas = Canvas()
    draw_back_hair(canvas)
    draw_body(canvas)
    draw_head(canvas)
    for side in (-1, 1):
        draw_eye(canvas, side)
    draw_nose_and_mouth(canvas)
    draw_fringe(canvas)
    return canvas.finished()


def draw_back_hair(canvas: Canvas) -> None:
    bob = outline((256, 50), (346, 80), (396, 180), (396, 290), (384, 352), (338, 372), (256, 372))
    canvas.polygon(bob, HAIR)


def draw_body(canvas: Canvas) -> None:
    shoulders = outline((256, 398), (312, 404), (388, 430), (438, 472), (450, 530), (450, 620))
    canvas.polygon(shoulders, SHIRT)
    neck = curve((304, 340), (304, 390), (310, 408), (256, 462), (202, 408), (208, 390), (208, 340))
    canvas.polygon(neck, SKIN)
    shade = curve(
        (304, 340), (304, 372), (286, 396), (256, 406), (226, 396), (208, 372), (208, 340)
    )
    canvas.polygon(shade, SKIN_SHADE)
    for side in (-1, 1):
        wing = [(54, 396), (76, 408), (52, 474), (0, 468), (22, 440)]
        canvas.polygon([(CENTRE + side * x, y) for x, y in wing], COLLAR)
        sleeve = [(128, 512), (124, 486), (132, 462)]
        canvas.stroke(curve(*((CENTRE + side * x, y) for x, y in sleeve)), 4, SHIRT_SHADE)


def draw_head(canvas: Canvas) -> None:
    for side in (-1, 1):
        canvas.ellipse(CENTRE + side * 116, 248, 22, 32, SKIN)
        canvas.ellipse(CENTRE + side * 118, 250, 11, 19, SKIN_SHADE)
    face = outline(
        (256, 98), (330, 116), (370, 190), (368, 262), (344, 326), (300, 368), (256, 380)
    )
    canvas.polygon(face, SKIN)
    for side in (-1, 1):
        canvas.glow(CENTRE + side * 68, 286, 28, 20, CHEEK, 0.6)


def draw_eye(canvas: Canvas, side: int) -> None:
    x, y = CENTRE + side * 48, 228.0
    canvas.ellipse(x, y, 25, 20, WHITE)
    canvas.ellipse(x, y + 1, 14.5, 15.5, IRIS)
    canvas.ellipse(x, y + 1, 8, 8.5, INK)
    canvas.ellipse(x + 5, y - 5, 4.2, 4.2, WHITE)
    lid = [(-25, -3), (-8, -19), (14, -17), (29, -4)]
    lid_line = curve(*((x + side * dx, y + dy) for dx, dy in lid))
    canvas.stroke(lid_line, 8, INK)
    brow = curve((x - side * 24, y - 38), (x + side * 6, y - 47), (x + side * 32, y - 36))
    canvas.stroke(brow, 11, HAIR)


def draw_nose_and_mouth(canvas: Canvas) -> None:
    canvas.stroke(curve((243, 281), (249, 289), (263, 289), (269, 281)), 6, SKIN_SHADE)
    upper = curve(
        (212, 316), (236, 313), (248, 312), (256, 315), (264, 312), (276, 313), (300, 316)
    )
    line = curve((208, 314), (230, 325), (256, 328), (282, 325), (304, 314))
    lower = curve((212, 316), (232, 337), (256, 344), (280, 337), (300, 316))
    canvas.polygon(upper + lower[::-1], LIP)
    canvas.stroke(line, 5, LIP_DARK)


def draw_fringe(canvas: Canvas) -> None:
    outside = curve((132, 262), (122, 170), (168, 82), (256, 52), (344, 82), (390, 170), (380, 262))
    right = [(368, 250), (364, 190), (330, 150), (286, 134)]
    left = [(226, 122), (196, 152), (152, 178), (144, 250)]
    inside = curve(*right, *left)
    canvas.polygon(outside + inside, HAIR)
    canvas.stroke(curve((176, 122), (214, 88), (262, 76)), 10, HAIR_LIGHT)
    canvas.stroke(curve((290, 84), (330, 106), (354, 146)), 8, HAIR_LIGHT)


def speak() -> np.ndarray:
    """int16 [samples], mono 16 kHz, without the silence that the synthesiser puts around."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as wav:
        command = ["espeak-ng", "-v", VOICE, "-s", str(WORDS_PER_MINUTE), "-w", wav.name, TEXT]
        subprocess.run(command, check=True)
        with av.open(wav.name) as container:
            resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
            frames = [f for packet in container.decode(audio=0) for f in resampler.resample(packet)]
            frames += resampler.resample(None)
    samples = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    loud = np.flatnonzero(np.abs(samples) > 300)
    pause = RATE // 5
    return samples[max(0, loud[0] - pause) : loud[-1] + 2 * pause]


def write_flac(samples: np.ndarray, path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def main() -> None:
    wanted = sys.argv[1:]
    if not wanted or not {"portrait", "speech"}.issuperset(wanted):
        sys.exit(__doc__)
    if "portrait" in wanted:
        draw_portrait().save(FOLDER / "portrait.png", optimize=True)
    if "speech" in wanted:
        write_flac(speak(), FOLDER / "speech.flac")


if __name__ == "__main__":
    main()
