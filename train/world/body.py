"""Shoulders, clothes and the wall behind, in picture coordinates."""

import numpy as np

from train.world.identity import Identity, mix
from train.world.shapes import Array, Canvas, curve, ellipse, mirrored, outline, polygon, stroke

PALE = (0.98, 0.96, 0.91)
INK = (0.10, 0.05, 0.12)
SHOULDERS = outline((0, 0.66), (0.26, 0.69), (0.56, 0.76), (0.78, 0.92), (0.84, 1.15), (0.84, 1.5),
                    (0, 1.5))  # fmt: skip


def paint_wall(canvas: Canvas, who: Identity) -> None:
    """The background; covers the whole canvas."""
    x, y, second = canvas.x, canvas.y, who.wall_second
    canvas.blend(np.ones_like(x), who.wall, True)
    if who.background == "gradient":
        weight = np.clip(0.5 + 0.5 * y + 0.2 * who.flip * x, 0, 1)
        canvas.blend(weight, second, True)
    elif who.background == "striped":
        wave = np.abs((x + 0.4 * who.flip * y) % 0.5 - 0.25) - 0.125
        canvas.fill(wave, second, opacity=0.7)
    elif who.background == "dotted":
        row = np.floor(y / 0.36)
        u, v = (x + 0.18 * (row % 2)) % 0.36 - 0.18, y % 0.36 - 0.18
        canvas.fill(np.hypot(u, v) - 0.07, second)
    elif who.background == "disc":
        canvas.fill(np.hypot(x, y + 0.1) - 0.86, second)
    elif who.background == "two-tone":
        canvas.fill(0.25 - y, second)


def paint_body(canvas: Canvas, who: Identity, chin_y: float) -> None:
    """Clothes (the main material), neck and collar. `chin_y`: the chin at rest."""
    x, y = canvas.x, canvas.y
    ink = mix(who.cloth, INK, 0.5)
    dark = mix(who.cloth, (0.10, 0.05, 0.20), 0.24)
    body = polygon(x, y, SHOULDERS)
    canvas.fill(body, who.cloth, edge=who.outline, ink=ink)
    _paint_pattern(canvas, who, body)
    for side in (-1, 1):
        sleeve = mirrored(curve((0.56, 1.3), (0.53, 1.0), (0.57, 0.9)), side)
        canvas.fill(stroke(x, y, sleeve, 0.035), dark, opacity=0.8)
    shadow = mix(who.skin, (0.38, 0.10, 0.22), 0.30)
    low = {"V-neck": 0.94, "shirt": 0.88, "jacket": 0.92}.get(who.garment, 0.76)
    neck_line = [(0.2, 0.3), (0.2, 0.62), (0.235, 0.7), (0, low), (-0.235, 0.7), (-0.2, 0.62)]
    neck = polygon(x, y, np.asarray([*neck_line, (-0.2, 0.3)]))
    if who.garment == "hoodie":
        hood = ellipse(x, y, 0, 0.72, 0.43, 0.17)
        canvas.fill(hood, dark, edge=who.outline, ink=ink)
    if who.garment == "jumper":
        canvas.fill(ellipse(x, y, 0, 0.7, 0.29, 0.13), dark)
    canvas.fill(neck, who.skin, main=False, edge=who.outline, ink=mix(who.skin, INK, 0.5))
    canvas.fill(ellipse(x, y, 0, chin_y - 0.06, 0.3, 0.16), shadow, main=False,
                opacity=0.5 + 0.5 * who.shading, within=neck)  # fmt: skip
    _paint_collar(canvas, who, dark)


def _paint_pattern(canvas: Canvas, who: Identity, body: Array) -> None:
    x, y = canvas.x, canvas.y
    if who.garment == "jacket":
        return
    if who.cloth_pattern == "striped":
        bands = np.abs(y % 0.2 - 0.1) - 0.045
        canvas.fill(bands, who.cloth_second, within=body)
    elif who.cloth_pattern == "dotted":
        u, v = (x + 0.1 * (np.floor(y / 0.2) % 2)) % 0.2 - 0.1, y % 0.2 - 0.1
        canvas.fill(np.hypot(u, v) - 0.045, who.cloth_second, within=body)


def _paint_collar(canvas: Canvas, who: Identity, dark: tuple[float, float, float]) -> None:
    x, y = canvas.x, canvas.y
    light = mix(who.cloth, PALE, 0.75)
    if who.garment == "T-shirt":
        band = curve((-0.26, 0.68), (-0.14, 0.77), (0.14, 0.77), (0.26, 0.68))
        canvas.fill(stroke(x, y, band, 0.05, 0.2), dark)
    elif who.garment == "V-neck":
        for side in (-1, 1):
            edge = mirrored(np.array([(0.25, 0.68), (0.0, 0.95)]), side)
            canvas.fill(stroke(x, y, edge, 0.055, 0.0), dark)
    elif who.garment == "hoodie":
        for side in (-1, 1):
            cord = mirrored(curve((0.14, 0.84), (0.15, 0.95), (0.14, 1.1)), side)
            canvas.fill(stroke(x, y, cord, 0.04, 0.0), PALE)
    elif who.garment == "shirt":
        for side in (-1, 1):
            wing = mirrored(np.array([(0.2, 0.6), (0.31, 0.69), (0.2, 0.97), (0.0, 0.9)]), side)
            canvas.fill(polygon(x, y, wing), light)
    elif who.garment == "jacket":
        v = polygon(x, y, np.array([(0.22, 0.66), (0.0, 1.25), (-0.22, 0.66), (0.0, 0.88)]))
        canvas.fill(v, PALE)
        tie = polygon(x, y, np.array([(0.05, 0.88), (0.07, 1.2), (-0.07, 1.2), (-0.05, 0.88)]))
        canvas.fill(tie, who.cloth_second)
        for side in (-1, 1):
            lapel = [(0.2, 0.64), (0.34, 0.74), (0.28, 0.98), (0.02, 1.3), (0.0, 1.25)]
            canvas.fill(polygon(x, y, mirrored(np.asarray(lapel), side)), dark)
