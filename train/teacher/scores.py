"""How a teacher does on faces and voices it does not learn from: errors of its velocity, and the
mouths of short streams; in the end, whether a minute changes a face.

B clips   n blocks   F latent frames of a block   C channels   h, w latent size   T video frames
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image

from networks.checkpoint import load_checkpoint
from networks.compact_vae import CompactVAE, build_vae
from networks.dit import DiT
from networks.vae import VAE
from pipeline.denoising.schedule import Schedule
from train.latents.clips import LatentClips
from train.network.batched_dit import Conditions
from train.network.flow import add_noise
from train.network.parallel import velocities
from train.network.stream import RolloutOptions, stream
from train.preset import PRESET
from train.vae.video import decoded
from train.world.clips import identity_seed
from train.world.identity import identity
from train.world.measure import correlation, read_mouth

ERROR_CLIPS, ERROR_BLOCKS = 8, 4
STREAMS, STREAM_BLOCKS = 8, 8
LONG_STREAMS, ROUNDS = 2, 16  # 61 s of the same again and again: a round's mean picture should stay
LEVELS = Schedule(4, PRESET.pipeline.shift).sigmas[:3]  # served; the fourth changes little
LOOKS = {
    "mouth opening and width": ("opening", "width"),
    "change over the VAE's": ("motion", "border"),
    "error of mean pictures (grey levels)": ("looks",),
}
"""Panels of a curve for what `DevClips.looks` finds."""


class DevClips:
    """The first clips of a folder of split "dev"."""

    def __init__(
        self, folder: Path, vae: CompactVAE | VAE | None = None, device: torch.device | str = "cpu"
    ) -> None:
        """Without `vae` nobody looks at mouths. Networks are asked on `device`."""
        shard = LatentClips(folder).shards[0]
        names = ("latents", "audio_features", "text", "reference", "motion", "mouth", "regions")
        stored = {name: shard.get_tensor(name)[:ERROR_CLIPS].float() for name in names}
        self.mouth = stored.pop("mouth").numpy()
        stored = {name: tensor.to(device) for name, tensor in stored.items()}
        self.latents, self.regions = stored["latents"], stored["regions"]
        audio = stored["audio_features"].movedim(1, -2).flatten(-2)
        given = {name: stored[name] for name in ("reference", "motion", "text")}
        self.conditions = Conditions(**given, audio=audio)
        self.about = json.loads(shard.metadata()["clips"])
        self.vae = vae if vae is None else vae.to(device)

    @classmethod
    def of(cls, clips: Path, weights: Path, device: str) -> Self:
        """Those in CLIPS/dev, looked at through WEIGHTS/vae.safetensors if that is there."""
        path = weights / "vae.safetensors"
        vae = load_checkpoint(build_vae(PRESET.vae), path) if path.is_file() else None
        if vae is None:
            print(f"no {path}: mouths are not looked at", file=sys.stderr)
        return cls(clips / "dev", vae, device)

    def _conditions(self, rows: int, blocks: int) -> Conditions:
        length = blocks * PRESET.pipeline.video_frames_per_block
        some = self.conditions.rows(slice(rows))
        return replace(some, audio=some.audio[..., :length])

    @torch.no_grad()
    def scores(self, dit: DiT, samples: Path | None = None) -> dict[str, float]:
        """Squared errors of the velocity at the served levels, "error_0" …, and of where there are
        mouth and eyes, "mouth_0" …, "eyes_0" …; and what `looks` finds."""
        return self._errors(dit) | self.looks(dit, samples)

    @torch.no_grad()
    def looks(
        self, dit: DiT, samples: Path | None = None, options: RolloutOptions | None = None
    ) -> dict[str, float]:
        """What `read` and `moved` say of streams, which are drawn into `samples`; nothing without
        a VAE."""
        if self.vae is None:
            return {}
        length = STREAM_BLOCKS * PRESET.pipeline.frames_per_block
        asked = self._conditions(STREAMS, STREAM_BLOCKS)
        frames = np.concatenate(list(self._blocks(dit, asked, options)), 1)
        true = self.latents[:STREAMS, :, :length]
        cap = next(decoded(self.vae, asked.motion[:, :, : PRESET.pipeline.warmup_frames], [true]))
        if samples is not None:  # every sixth frame, a row for each stream, below the VAE's
            pairs = zip(cap, frames, strict=True)
            rows = [np.concatenate(list(clip[::6]), 1) for pair in pairs for clip in pair]
            Image.fromarray(np.concatenate(rows)).save(samples)
        return self.read(frames) | moved(frames, cap)

    def _errors(self, dit: DiT) -> dict[str, float]:
        frames = ERROR_BLOCKS * PRESET.pipeline.frames_per_block
        clean = self.latents[:, :, :frames]
        regions = {"mouth": self.regions[:, :frames, 0], "eyes": self.regions[:, :frames, 1]}
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)).to(clean)
        conditions, found = self._conditions(len(clean), ERROR_BLOCKS), {}
        for number, level in enumerate(LEVELS):
            sigma = clean.new_full((len(clean),), float(level))
            noisy, starts = add_noise(clean, noise, sigma), [0] * len(clean)
            made = velocities(dit, noisy, 1000 * sigma, conditions, starts=starts)
            error = (made - noise + clean).square().mean(1)
            found[f"error_{number}"] = float(error.mean())
            for name, region in regions.items():
                found[f"{name}_{number}"] = float((error * region).sum() / region.sum())
        return found

    def _blocks(
        self, dit: DiT, conditions: Conditions, options: RolloutOptions | None = None
    ) -> Iterator[np.ndarray]:
        assert self.vae is not None
        still = conditions.motion[:, :, : PRESET.pipeline.warmup_frames]
        return decoded(self.vae, still, stream(dit, conditions, options))

    @torch.no_grad()
    def drift(self, dit: DiT) -> dict[str, float]:
        """How far mean pictures of a stream's rounds are from that of its second, in grey levels:
        "drift" the last one's, "drift_soon" the third's, which only moved. Nothing without a VAE.
        """
        if self.vae is None:
            return {}
        once = self._conditions(LONG_STREAMS, STREAM_BLOCKS)
        conditions = replace(once, audio=torch.cat([once.audio] * ROUNDS, -1))
        blocks = self._blocks(dit, conditions)
        means = np.stack([block.mean(1) for block in blocks])
        rounds = means.reshape(ROUNDS, STREAM_BLOCKS, *means.shape[1:]).mean(1)
        away = [float(np.abs(rounds[i] - rounds[1]).mean()) for i in (2, -1)]
        return dict(zip(("drift_soon", "drift"), away, strict=True))

    def read(self, frames: np.ndarray) -> dict[str, float]:
        """Mean correlations of the mouths in `frames` with the true ones."""
        found: dict[str, list[float]] = {"opening": [], "width": []}
        for made, true, about in zip(frames, self.mouth, self.about, strict=False):
            who = identity(identity_seed(about["seed"], "dev"))
            mouth = read_mouth(made, who, about["mood"]).mouth
            for column, name in enumerate(found):
                found[name].append(correlation(getattr(mouth, name), true[: len(made), column]))
        return {name: float(np.nanmean(values)) for name, values in found.items()}


def moved(frames: np.ndarray, cap: np.ndarray) -> dict[str, float]:
    """How much changes from frame to frame over what the VAE makes of the truth: "motion" in all,
    "border" of latents over within; and "looks", how far the mean picture of each stream is from
    the VAE's, in grey levels. Both uint8 [B, T, S, S, 3]."""
    change, wanted = (np.abs(np.diff(x.astype(np.int16), axis=1)) for x in (frames, cap))
    border = np.arange(change.shape[1]) % 4 == 3

    def steps(x: np.ndarray) -> float:
        return float(x[:, border].mean() / x[:, ~border].mean())

    motion = float(change.mean() / wanted.mean())
    looks = float(np.abs(frames.mean(1) - cap.mean(1)).mean())
    return {"motion": motion, "border": steps(change) / steps(wanted), "looks": looks}
