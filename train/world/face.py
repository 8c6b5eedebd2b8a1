"""The still layers of a character, painted once: hair, body, head, and what lies over the face.

Heads are painted in head coordinates (origin between the cheeks, chin at about y = 0.68), bodies
in picture coordinates with the head at rest at `HEAD_REST`.
"""

import numpy as np

from train.world.body import paint_body, paint_wall
from train.world.hair import haircut
from train.world.identity import Colour, Identity, mix
from train.world.shapes import Array, Canvas, curve, ellipse, mirrored, outline, polygon, stroke

HEAD_REST = (0.0, -0.07)  # picture coordinates of the head's origin at rest
EYE_Y = -0.03
MOUTH_Y = 0.385
NOSE_Y = 0.15
WHITE: Colour = (0.99, 0.98, 0.96)
INK: Colour = (0.17, 0.12, 0.15)


def ink_of(colour: Colour) -> Colour:
    return mix(colour, (0.10, 0.05, 0.12), 0.5)


def shade_of(colour: Colour, strength: float) -> Colour:
    return mix(colour, (0.38, 0.10, 0.22), 0.26 * strength)


def paint(who: Identity, size: int) -> dict[str, Array]:
    """Texels [5, side, side] (see `train.world.shapes.Canvas`) of each layer of a character for a
    picture of `size` pixels, back to front. The last one moves with the eyes, over eyes and mouth:
    nose, freckles, moustache and glasses."""
    back_lines, front_lines = haircut(who)
    layers = {name: Canvas(size) for name in ("wall", "back", "body", "head", "front", "features")}
    paint_wall(layers["wall"], who)
    paint_body(layers["body"], who, HEAD_REST[1] + who.chin)
    _paint_hair(layers["back"], who, back_lines, mix(who.hair, INK, 0.16 * who.shading))
    _paint_head(layers["head"], who)
    _paint_hair(layers["front"], who, front_lines, who.hair)
    if front_lines and who.cut not in ("buzz", "curly", "spiky"):
        _paint_gloss(layers["front"], who, front_lines[0])
    _paint_features(layers["features"], who)
    return {name: layer.texels for name, layer in layers.items()}


def _paint_hair(canvas: Canvas, who: Identity, lines: list[Array], colour: Colour) -> None:
    shapes = [polygon(canvas.x, canvas.y, line) for line in lines]
    if shapes:
        whole = np.minimum.reduce(shapes)
        canvas.fill(whole, colour, edge=who.outline, ink=ink_of(who.hair))


def _paint_gloss(canvas: Canvas, who: Identity, line: Array) -> None:
    within = polygon(canvas.x, canvas.y, line) + 0.03
    top = -0.68 - 0.13 * who.hair_volume
    shine = curve((-0.36, top + 0.24), (-0.18, top + 0.14), (0.06, top + 0.11)) * [who.flip, 1]
    distance = stroke(canvas.x, canvas.y, shine, 0.06)
    canvas.fill(distance, mix(who.hair, WHITE, 0.30), opacity=0.75 * who.shading, within=within)


def _paint_head(canvas: Canvas, who: Identity) -> None:
    x, y, w, chin = canvas.x, canvas.y, who.face_width, who.chin
    ink, shade = ink_of(who.skin), shade_of(who.skin, 1.0)
    for side in (-1, 1):
        ear = ellipse(x, y, side * (w + 0.01), 0.04, 0.105, 0.15)
        canvas.fill(ear, who.skin, edge=who.outline, ink=ink)
        canvas.fill(ellipse(x, y, side * (w + 0.02), 0.05, 0.05, 0.085), shade, opacity=0.7)
        if who.earrings:
            ring = ellipse(x, y, side * (w + 0.05), 0.23, 0.05, 0.05)
            canvas.fill(ring, (0.97, 0.80, 0.35), main=False)
    face = outline(
        (0, -0.69), (0.62 * w, -0.6), (0.97 * w, -0.26), (w, 0.1), (0.9 * w, 0.33),
        (who.jaw, 0.52), (0.45 * who.jaw, chin - 0.03), (0, chin),
    )  # fmt: skip
    head = polygon(x, y, face)
    canvas.fill(head, who.skin, edge=who.outline, ink=ink)
    far_side = ellipse(x, y, 0.16 * who.flip, -0.05, w * 1.08, 0.82)
    canvas.fill(-far_side, shade, opacity=0.55 * who.shading, within=head)
    cheek = mix(who.skin, (0.93, 0.32, 0.32), 0.42)
    for side in (-1, 1):
        away = ((x - side * 0.62 * w) / 0.15) ** 2 + ((y - 0.2) / 0.11) ** 2
        soft = 0.8 * who.shading * np.exp(-1.5 * away)
        canvas.blend(soft * canvas.coverage(head), cheek, True)
    if who.beard in ("full beard", "stubble"):
        _paint_beard(canvas, who, head)
    elif who.beard == "goatee":
        goatee = ellipse(x, y, 0, chin - 0.06, 0.17, 0.15)
        canvas.fill(goatee, who.hair, main=False, within=head)


def _paint_beard(canvas: Canvas, who: Identity, head: Array) -> None:
    w = who.face_width
    half = ((w + 0.1, -0.08), (w * 0.9, 0.06), (w * 0.74, 0.26), (0.26, 0.27))
    rim = curve(*half, (0.0, 0.245), *((-x, y) for x, y in reversed(half)))
    low = np.array([(-0.9, 1.0), (0.9, 1.0)])
    beard = polygon(canvas.x, canvas.y, np.concatenate([rim, low]))
    if who.beard == "stubble":
        shadow = mix(who.skin, who.hair, 0.35)
        canvas.fill(beard, shadow, main=False, opacity=0.8, within=head)
        return
    full = np.minimum(head - 0.035, polygon(canvas.x, canvas.y, outline(
        (0, 0.4), (0.4, 0.44), (0.33, who.chin), (0, who.chin + 0.1))))  # fmt: skip
    canvas.fill(beard, who.hair, main=False, within=full, edge=0.0)


def _paint_features(canvas: Canvas, who: Identity) -> None:
    x, y = canvas.x, canvas.y
    shade = shade_of(who.skin, 1.3)
    if who.nose == "button":
        canvas.fill(ellipse(x, y, 0, NOSE_Y, 0.062, 0.05), shade, opacity=0.75)
    elif who.nose == "curve":
        tip = curve(
            (-0.06, NOSE_Y), (-0.03, NOSE_Y + 0.035), (0.03, NOSE_Y + 0.035), (0.06, NOSE_Y)
        )
        canvas.fill(stroke(x, y, tip, 0.045), shade)
    else:
        ridge = curve((0.01, 0.0), (0.035, 0.1), (0.05, NOSE_Y + 0.02), (-0.03, NOSE_Y + 0.04))
        canvas.fill(stroke(x, y, mirrored(ridge, who.flip), 0.04), shade)
    if who.freckles:
        for dx, dy in ((0.2, 0.16), (0.28, 0.2), (0.36, 0.15)):
            for side in (-1, 1):
                spot = ellipse(x, y, side * dx, dy, 0.02, 0.02)
                canvas.fill(spot, mix(who.skin, (0.5, 0.2, 0.1), 0.5))
    if who.beard in ("moustache", "full beard", "goatee"):
        half = [(0, 0.235), (0.12, 0.235), (0.25, 0.33), (0.1, 0.315), (0, 0.3)]
        canvas.fill(polygon(x, y, outline(*half)), who.hair, main=False)
    if who.glasses != "none":
        _paint_glasses(canvas, who)


def _paint_glasses(canvas: Canvas, who: Identity) -> None:
    x, y = canvas.x, canvas.y
    rx, ry = who.eye_size[0] + 0.068, who.eye_size[1] + 0.062
    width = 0.034
    for side in (-1, 1):
        cx = side * (who.eye_gap + 0.006)
        if who.glasses == "round":
            lens = ellipse(x, y, cx, EYE_Y, rx, rx)
        else:
            qx, qy = np.abs(x - cx) - rx + 0.05, np.abs(y - EYE_Y) - ry + 0.05
            lens = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0)) - 0.05
            lens = lens + np.minimum(np.maximum(qx, qy), 0)
        canvas.fill(lens, WHITE, main=False, opacity=0.10)
        canvas.fill(np.abs(lens) - width / 2, who.glasses_colour, main=False)
        arm = np.array([(cx + side * rx, EYE_Y - 0.03), (side * (who.face_width + 0.02), -0.05)])
        canvas.fill(stroke(x, y, arm, width, 0), who.glasses_colour, main=False)
    gap = who.eye_gap - rx
    bridge = curve((-gap - 0.01, EYE_Y), (0, EYE_Y - 0.04), (gap + 0.01, EYE_Y))
    canvas.fill(stroke(x, y, bridge, width, 0), who.glasses_colour, main=False)
