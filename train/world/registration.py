"""Where the head of a known character is in each frame, from the pixels.

Gauss-Newton registration of every frame to drawings of the character at rest. The similarity (x, y,
tilt, zoom) is undone by resampling the frame; the parallax of the face (turn, nod) is found by
comparing with the nearest of a small bank of drawings. Eyes blink, and everything below the nose
moves with the jaw: only hair, ears, upper face and nose are compared.

T frames   S the picture's side in pixels   K drawings of the bank   P compared values = S * S * 3
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from train.world.face import HEAD_REST, MOUTH_Y
from train.world.identity import Identity
from train.world.motion import Pose, still_expression, still_mouth, still_pose
from train.world.render import REGIONS, axes, render

TURNS = np.linspace(-0.1, 0.1, 9, dtype=np.float32)
NODS = np.linspace(-0.07, 0.07, 7, dtype=np.float32)
STEPS = 12
BLUR_PIXELS = (2.0, 0.8)  # deviation of the blur in the first half of the steps, and in the rest
PRIOR = torch.tensor([0.08, 0.06, 0.1, 0.04, 0.035, 0.03])
"""Usual size of x, y, tilt, log zoom, turn, nod: keeps what a plain face hides near rest."""
NOISE = 0.03  # usual difference of a pixel from its drawing, [0, 1]; weighs the prior
JUMP = 0.025  # head units; no face turns so much within a blink, closed eyes can look like it
LIMIT = 3.0  # no value leaves this many times its usual size


def to_unit(frames: np.ndarray) -> Tensor:
    """uint8 [T, S, S, 3] to float32 [T, 3, S, S] in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255


def blur(pictures: Tensor, deviation: float) -> Tensor:
    """Gaussian blur of [T, C, h, w], edges repeated."""
    half = int(np.ceil(2.5 * deviation))
    kernel = torch.exp(-0.5 * (torch.arange(-half, half + 1) / deviation) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, -1, 1).expand(pictures.shape[1], -1, -1, -1)
    padded = F.pad(pictures, (half, half, half, half), mode="replicate")
    rows = F.conv2d(padded, kernel, groups=pictures.shape[1])
    return F.conv2d(rows, kernel.transpose(2, 3), groups=pictures.shape[1])


def straightened(pictures: Tensor, pose: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """[T, C, h, w]: pictures seen as if their heads were at rest. `pose` [T, 4] or more: x, y,
    tilt, log zoom; what follows is ignored. `x` and `y` [h, w] or [T, h, w]: the picture
    coordinates at rest to look at."""
    px, py = x - HEAD_REST[0], y - HEAD_REST[1]
    dx, dy, tilt, log_zoom = (pose[:, i, None, None] for i in range(4))
    cos, sin = torch.cos(tilt) * log_zoom.exp(), torch.sin(tilt) * log_zoom.exp()
    places = (px * cos - py * sin + dx + HEAD_REST[0], px * sin + py * cos + dy + HEAD_REST[1])
    return F.grid_sample(pictures, torch.stack(places, -1), mode="bicubic", align_corners=False,
                         padding_mode="border")  # fmt: skip


@lru_cache(maxsize=32)
class _Bank:
    """Drawings at rest for each turn and nod, and what each pose value changes in them. `drawings`
    [K, 3, S, S], `moved` [K, 6, P], `weight` [K, S, S]."""

    def __init__(self, who: Identity, mood: str, size: int, deviation: float) -> None:
        nod, turn = (v.ravel() for v in np.meshgrid(NODS, TURNS, indexing="ij"))
        num = len(turn)
        pose = replace(still_pose(num), turn=turn, nod=nod)
        drawn = render(who, pose, still_expression(num), still_mouth(num), mood, size)
        pictures = blur(to_unit(drawn.frames), deviation)
        self.weight = _weights(torch.from_numpy(drawn.regions), size)
        self.drawings = pictures
        moved = (_derivatives(pictures, size) * self.weight[:, None, None]).flatten(2)
        self.prior = torch.diag((NOISE / PRIOR) ** 2) * self.weight.sum((1, 2)).mean() / 200
        normal = moved @ moved.transpose(1, 2) + self.prior
        self.inverse, self.moved = torch.linalg.inv(normal), moved

    def step(self, pictures: Tensor, pose: Tensor, x: Tensor, y: Tensor) -> Tensor:
        turn = ((pose[:, 4] / (TURNS[1] - TURNS[0])).round() + len(TURNS) // 2).long()
        nod = ((pose[:, 5] / (NODS[1] - NODS[0])).round() + len(NODS) // 2).long()
        turn, nod = turn.clamp(0, len(TURNS) - 1), nod.clamp(0, len(NODS) - 1)
        index = nod * len(TURNS) + turn
        rest = torch.stack([torch.from_numpy(TURNS)[turn], torch.from_numpy(NODS)[nod]], 1)
        seen = straightened(pictures, pose, x, y)
        difference = ((seen - self.drawings[index]) * self.weight[index][:, None]).flatten(1)
        gradient = torch.einsum("tkp,tp->tk", self.moved[index], difference)
        # The frame is straightened by the estimate, but compared with a drawing at `rest`.
        start = torch.cat([pose[:, :4], rest], 1)
        change = torch.einsum("tij,tj->ti", self.inverse[index], gradient - start @ self.prior)
        return (start + change).clamp(-LIMIT * PRIOR, LIMIT * PRIOR)


def _weights(regions: Tensor, size: int) -> Tensor:
    """[K, S, S]: where a head at rest can be compared."""
    _, y = axes(size)
    kept = torch.zeros(regions.shape)
    for name, weight in (("hair", 1.0), ("skin", 1.0), ("accessory", 1.0), ("eyes", 0.2)):
        kept = torch.where(regions == REGIONS.index(name), weight, kept)
    rim = F.max_pool2d(kept[:, None], 3, stride=1, padding=1)[:, 0]  # the outline shows on the wall
    kept = torch.maximum(kept, 0.7 * rim)
    jaw = torch.sigmoid((HEAD_REST[1] + MOUTH_Y - 0.13 - y) / 0.02)
    return kept * jaw


def _derivatives(pictures: Tensor, size: int) -> Tensor:
    """[K, 6, 3, S, S]: change of a straightened picture per unit of each pose value."""
    x, y = axes(size)
    px, py = x - HEAD_REST[0], y - HEAD_REST[1]
    unit = 2 / size
    right = F.pad(pictures, (1, 1, 0, 0), mode="replicate")
    down = F.pad(pictures, (0, 0, 1, 1), mode="replicate")
    gx = (right[..., 2:] - right[..., :-2]) / (2 * unit)
    gy = (down[..., 2:, :] - down[..., :-2, :]) / (2 * unit)
    # A head that has moved by +d shows, straightened with an estimate too small by d, its drawing
    # displaced by +d: the difference is -gradient * d.
    bank = pictures.view(len(NODS), len(TURNS), *pictures.shape[1:])
    turn = torch.gradient(bank, spacing=float(TURNS[1] - TURNS[0]), dim=1)[0].flatten(0, 1)
    nod = torch.gradient(bank, spacing=float(NODS[1] - NODS[0]), dim=0)[0].flatten(0, 1)
    tilt, zoom = gx * -py + gy * px, gx * px + gy * py
    return torch.stack([-gx, -gy, -tilt, -zoom, turn, nod], 1)


@torch.no_grad()
def estimate_pose(frames: np.ndarray, who: Identity, mood: str = "neutral") -> Pose:
    """The pose [T] of the head in frames uint8 [T, S, S, 3] of this character."""
    size = frames.shape[1]
    x, y = axes(size)
    pieces = []
    for start in range(0, len(frames), 64):
        pictures = to_unit(frames[start : start + 64])
        pose = torch.zeros(len(pictures), 6)
        for deviation in BLUR_PIXELS:
            bank, soft = _Bank(who, mood, size, deviation), blur(pictures, deviation)
            for _ in range(STEPS // 2):
                pose = bank.step(soft, pose, x, y)
        pieces.append(pose)
    values = torch.cat(pieces).numpy()
    x_, y_, tilt, log_zoom = values[:, :4].T
    turn, nod = (_without_jumps(column) for column in values[:, 4:].T)
    return Pose(x=x_, y=y_, tilt=tilt, zoom=np.exp(log_zoom), turn=turn, nod=nod)


def _without_jumps(curve: np.ndarray) -> np.ndarray:
    """[T] with what leaves the median of eleven frames by more than `JUMP` put back on it."""
    around = np.lib.stride_tricks.sliding_window_view(np.pad(curve, 5, mode="edge"), 11)
    median = np.median(around, 1).astype(curve.dtype)
    return np.where(np.abs(curve - median) > JUMP, median, curve)


def as_tensor(pose: Pose) -> Tensor:
    """[T, 6] with the logarithm of the zoom, as `straightened` wants it."""
    columns = (pose.x, pose.y, pose.tilt, np.log(pose.zoom), pose.turn, pose.nod)
    return torch.from_numpy(np.stack(columns, 1).astype(np.float32))
