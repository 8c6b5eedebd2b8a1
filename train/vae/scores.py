"""How good the VAE's reconstructions of whole clips are: the figures of its gate.

T frames   S the picture's side in pixels   Δ the change from one frame to the next
"""

import numpy as np
import torch

from networks.compact_vae import GROUP, CompactVAE
from networks.vae import VAE
from train.learning.device import device_of
from train.vae.video import to_frames, to_video
from train.vae.worlds import Drawn
from train.world.clips import Clip
from train.world.measure import correlation, read_mouth
from train.world.render import REGIONS

MOVING = 8  # grey levels from which a change counts as motion
SETTLED = 4  # frames at the start that measures of change leave out
GATES = {
    "psnr": (">=", 30.0),
    "psnr_worst": (">=", 27.0),
    "psnr_mouth": (">=", 29.0),
    "opening": (">=", 0.97),
    "width": (">=", 0.75),
    "boundary_ratio": ("<=", 1.7),
    "static_flicker": ("<=", 1.5),
    "motion_inside": (">=", 0.75),
}


@torch.no_grad()
def reconstruct(vae: CompactVAE | VAE, frames: np.ndarray) -> np.ndarray:
    """uint8 [T, S, S, 3], T = 1 + 4n, through latents and back."""
    made, _ = vae.decode(vae.encode(to_video(frames, device_of(vae))[None]))
    return to_frames(made)[0]


def _psnr(squared: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(float(squared.mean()), 1e-9)))


def clip_scores(clip: Drawn, made: np.ndarray, *, find_pose: bool = False) -> dict[str, float]:
    """Figures of one clip; sums named `_…` are for ratios over all clips. `made` is the
    reconstruction of `clip.frames`, uint8 [T, S, S, 3]. `find_pose`: read the mouth where the
    picture shows the head, not where it is known to be. Scenes have no mouths to be read."""
    truth = clip.frames[: len(made)]
    squared = (made.astype(np.float32) - truth).astype(np.float32) ** 2
    scores = {"psnr": _psnr(squared)}
    for name in ("mouth", "eyes"):
        scores[f"psnr_{name}"] = _psnr(squared[clip.regions[: len(made)] == REGIONS.index(name)])
    spoken = isinstance(clip, Clip) and len(made) == len(clip.frames)
    if spoken and clip.mouth.opening.std() > 0.05:
        pose = None if find_pose else clip.pose
        for prefix, frames in (("", made), ("truth_", truth)):
            read = read_mouth(frames, clip.identity, clip.mood, pose).mouth
            scores[prefix + "opening"] = correlation(read.opening, clip.mouth.opening)
            scores[prefix + "width"] = correlation(read.width, clip.mouth.width)
    return scores | _changes(truth.astype(np.float32), made.astype(np.float32))


def _changes(truth: np.ndarray, made: np.ndarray) -> dict[str, float]:
    wanted, found = np.diff(truth, axis=0), np.diff(made, axis=0)
    place = np.arange(len(wanted))
    largest = np.abs(wanted).max(-1)
    sums: dict[str, float] = {}
    for name, rows in (("boundary", place % GROUP == 0), ("inside", place % GROUP != 0)):
        rows &= place >= SETTLED
        w, f, top = wanted[rows], found[rows], largest[rows]
        sums[f"_{name}_truth"] = float(np.abs(w).mean())
        sums[f"_{name}_made"] = float(np.abs(f).mean())
        sums[f"_{name}_static"] = float(np.abs(f[top == 0]).mean())
        moving = top >= MOVING
        sums[f"_{name}_moving_truth"] = float(np.abs(w[moving]).sum() / w.size)
        sums[f"_{name}_moving_made"] = float(np.abs(f[moving]).sum() / w.size)
        sums[f"_{name}_along"] = float((w[moving] * f[moving]).sum() / w.size)
        sums[f"_{name}_square"] = float((w[moving] ** 2).sum() / w.size)
    return sums


def summary(scores: list[dict[str, float]]) -> dict[str, float]:
    """Means over clips; worst faces; ratios of sums over all clips. nan is what can't be told."""

    def values(name: str) -> list[float]:
        return [s[name] for s in scores if np.isfinite(s.get(name, np.nan))]

    def mean(name: str) -> float:
        return float(np.mean(found)) if (found := values(name)) else float("nan")

    def ratio(one: str, other: str) -> float:
        below = mean(other)
        return mean(one) / below if below else float("nan")

    names = ("psnr", "psnr_mouth", "psnr_eyes", "opening", "width", "truth_opening", "truth_width")
    result = {name: mean(name) for name in names}
    result["psnr_worst"] = min(s["psnr"] for s in scores)
    result["opening_worst"] = min(values("opening"), default=float("nan"))
    made, truth = (ratio(f"_boundary_{of}", f"_inside_{of}") for of in ("made", "truth"))
    result["boundary_ratio"] = made / truth if truth else float("nan")
    result["static_flicker"] = mean("_boundary_static")
    result["static_flicker_inside"] = mean("_inside_static")
    for name in ("inside", "boundary"):
        result[f"motion_{name}"] = ratio(f"_{name}_moving_made", f"_{name}_moving_truth")
        # Flicker also changes pixels; only this counts change in the right direction.
        result[f"motion_{name}_along"] = ratio(f"_{name}_along", f"_{name}_square")
    return result


def passes(result: dict[str, float]) -> dict[str, bool]:
    return {
        name: result[name] >= wanted if sign == ">=" else result[name] <= wanted
        for name, (sign, wanted) in GATES.items()
    }
