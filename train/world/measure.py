"""How open, wide and round the mouth is in each frame, from the pixels of a known character.

The mouth is compared with drawings of it in a grid of shapes, at rest; between the shapes of the
grid the difference is linearised. Nothing of the driving sound is used.

T frames   S the picture's side   K shapes   P values of the crop around the mouth
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from torch import Tensor

from train.world.face import HEAD_REST, MOUTH_Y
from train.world.features import ellipse
from train.world.identity import Identity
from train.world.motion import Mouth, Pose, part, still_expression, still_pose
from train.world.registration import as_tensor, blur, estimate_pose, straightened, to_unit
from train.world.render import axes, render

OPENINGS = np.array([0, 0.06, 0.12, 0.2, 0.3, 0.42, 0.56, 0.7, 0.85, 1.0], np.float32)
WIDTHS = np.linspace(0, 1, 7, dtype=np.float32)
ROUNDNESSES = np.linspace(0, 1, 4, dtype=np.float32)
GRID = (OPENINGS, WIDTHS, ROUNDNESSES)
BLUR_PIXELS = 0.6  # resampling blurs the frames a little; blurring both alike makes that harmless
REST = torch.tensor([0.0, 0.5, 0.0])
REST_WEIGHT = 2e-4  # squared error per pixel that leaving rest costs: decides what cannot be seen
MOUTH_MOODS = ("neutral", "happy", "sad")  # an angry one's corners are nearly sad
SETTLING_FRAMES = 16  # how many frames `find_pose` looks for mouths in
COARSE, FINE = (-0.12, -0.08, -0.04, 0.0, 0.04, 0.08, 0.12), (0.02, 0.01, 0.01)
"""By how much it turns and nods, head units: everywhere, then around the best."""
WORTHWHILE, GOOD_ENOUGH = 0.8, 25.0
"""It moves only to where the squared error is at most this part; so much is always forgiven."""
STILL = 1e-4  # a curve whose deviation is below this does not move


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was read from the pixels."""

    mouth: Mouth
    pose: Pose
    error: np.ndarray  # [T]: root mean square difference of mouth and nearest drawing, [0, 255]


@lru_cache(maxsize=16)
def _bank(who: Identity, mood: str, size: int) -> tuple[Tensor, Tensor]:
    """Drawings [10, 7, 4, P] of every shape, and the shapes [10, 7, 4, 3]."""
    shapes = np.stack(np.meshgrid(*GRID, indexing="ij"), -1)
    flat = shapes.reshape(-1, 3)
    mouth = Mouth(opening=flat[:, 0], width=flat[:, 1], roundness=flat[:, 2])
    num = len(flat)
    drawn = render(who, still_pose(num), still_expression(num), mouth, mood, size)
    pictures = blur(to_unit(drawn.frames), BLUR_PIXELS)[:, :, around_mouth(size)]
    return pictures.reshape(*shapes.shape[:3], -1), torch.from_numpy(shapes)


def around_mouth(size: int) -> Tensor:
    """bool [S, S]: the pixels of a face at rest that its mouth can reach."""
    x, y = axes(size)
    return ellipse(x, y - HEAD_REST[1] - MOUTH_Y - 0.05, 0.37, 0.22) < 0


def _mouths(frames: np.ndarray, pose: Pose) -> Tensor:
    """[T, P]: the mouth of each frame as if the head were at rest."""
    size, values = frames.shape[1], as_tensor(pose)
    mask = around_mouth(size)
    x, y = (v[mask][None, None] for v in axes(size))
    # The face is moved on the head; the drawings are not.
    x, y = x + values[:, 4, None, None], y + values[:, 5, None, None]
    return straightened(blur(to_unit(frames), BLUR_PIXELS), values, x, y).flatten(1)


def _fit(mouths: Tensor, bank: Tensor, shapes: Tensor) -> tuple[Tensor, Tensor]:
    """Shape [T, 3] and squared error [T] of the best drawing, refined between the drawings."""
    flat = bank.flatten(0, 2)
    cost = (flat**2).sum(1) - 2 * mouths @ flat.T
    cost = cost / mouths.shape[1] + REST_WEIGHT * ((shapes.flatten(0, 2) - REST) ** 2).sum(1)
    best = cost.argmin(1)
    index = list(np.unravel_index(best.numpy(), bank.shape[:3]))
    node, slopes, low, high = shapes.flatten(0, 2)[best], [], [], []
    for axis, count in enumerate(bank.shape[:3]):
        beside = [index.copy(), index.copy()]
        beside[0][axis] = np.maximum(index[axis] - 1, 0)
        beside[1][axis] = np.minimum(index[axis] + 1, count - 1)
        a, b = (tuple(torch.from_numpy(i) for i in place) for place in beside)
        span = (shapes[b] - shapes[a])[:, axis]
        slopes.append((bank[b] - bank[a]) / span[:, None])
        low.append((shapes[a][:, axis] + node[:, axis]) / 2 - 0.02)
        high.append((shapes[b][:, axis] + node[:, axis]) / 2 + 0.02)
    slope = torch.stack(slopes, 1)
    difference = mouths - flat[best]
    normal = slope @ slope.transpose(1, 2) / mouths.shape[1] + REST_WEIGHT * torch.eye(3)
    gradient = (slope @ difference[..., None])[..., 0] / mouths.shape[1] - REST_WEIGHT * (
        node - REST
    )
    change = torch.linalg.solve(normal, gradient)
    shape = torch.maximum(torch.minimum(node + change, torch.stack(high, 1)), torch.stack(low, 1))
    residual = difference - ((shape - node)[:, None] @ slope)[:, 0]
    return shape.clamp(0, 1), (residual**2).mean(1)


def find_pose(frames: np.ndarray, who: Identity, mood: str) -> Pose:
    """The pose [T] of the head in frames uint8 [T, S, S, 3], one piece of a stream. What a model
    draws is not quite the character, and hair or brows in other places than its drawing's pull the
    face's turn and nod to where there is no mouth. So both are moved, by the same in all frames, to
    where the mouths are most like mouths."""
    pose = estimate_pose(frames, who, mood)
    rows = np.linspace(0, len(frames) - 1, min(len(frames), SETTLING_FRAMES)).round().astype(int)
    some = part(pose, rows)

    def misfit(turn: float, nod: float) -> float:
        error = read_mouth(frames[rows], who, mood, _turned(some, turn, nod)).error
        return float((error**2).mean()) + GOOD_ENOUGH

    tried = {(0.0, 0.0): misfit(0, 0)}
    for place in product(COARSE, COARSE):
        tried.setdefault(place, misfit(*place) / WORTHWHILE)
    for step in FINE:
        turn, nod = min(tried, key=tried.__getitem__)
        for right, down in ((step, 0), (-step, 0), (0, step), (0, -step)):
            near = (turn + right, nod + down)
            tried.setdefault(near, misfit(*near) / WORTHWHILE)
    return _turned(pose, *min(tried, key=tried.__getitem__))


def _turned(pose: Pose, turn: float, nod: float) -> Pose:
    return replace(pose, turn=pose.turn + np.float32(turn), nod=pose.nod + np.float32(nod))


@torch.no_grad()
def read_mouth(frames: np.ndarray, who: Identity, mood: str, pose: Pose | None = None) -> Reading:
    """Read a character's mouth from frames uint8 [T, S, S, 3]. `pose`: where its head is, or None
    to find that in the frames."""
    pose = find_pose(frames, who, mood) if pose is None else pose
    bank, shapes = _bank(who, mood, frames.shape[1])
    shape, squared = _fit(_mouths(frames, pose), bank, shapes)
    opening, width, roundness = shape.numpy().T
    mouth = Mouth(opening=opening, width=width, roundness=roundness)
    return Reading(mouth=mouth, pose=pose, error=255 * squared.sqrt().numpy())


def read_mood(frames: np.ndarray, who: Identity) -> str:
    """Which of `MOUTH_MOODS` the mouths in frames uint8 [T, S, S, 3] fit best."""
    errors = {m: float((read_mouth(frames, who, m).error ** 2).mean()) for m in MOUTH_MOODS}
    return min(errors, key=errors.__getitem__)


def correlation(made: np.ndarray, true: np.ndarray) -> float:
    """0 for a mouth that never moves, nan where the true one does not either."""
    if true.std() < STILL:
        return float("nan")
    return float(np.corrcoef(made, true)[0, 1]) if made.std() >= STILL else 0.0
