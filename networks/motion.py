"""Framepack: 19 motion latents become 2.5 frames worth of sink tokens minus one (section 6.6)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from networks.layers import PatchEmbedding

NUM_FRAMES_1X, NUM_FRAMES_2X, NUM_FRAMES_4X = 1, 2, 16
"""Latent frames of each bucket; the newest is kept whole, the oldest are packed tightest."""


class FramePacker(nn.Module):
    """motion [1, C, T, h, w], oldest first -> [S + S/4 + 4 * S/16, D]: newest, 2x, 4x bucket."""

    def __init__(self, channels: int, dim: int, patch: int) -> None:
        super().__init__()
        self.proj = PatchEmbedding(channels, dim, (1, patch, patch))
        self.proj_2x = PatchEmbedding(channels, dim, (2, 2 * patch, 2 * patch))
        self.proj_4x = PatchEmbedding(channels, dim, (4, 4 * patch, 4 * patch))

    def forward(self, motion: Tensor) -> Tensor:
        total = NUM_FRAMES_1X + NUM_FRAMES_2X + NUM_FRAMES_4X
        motion = motion[:, :, -total:]
        missing = total - motion.shape[2]
        if missing:
            motion = torch.nn.functional.pad(motion, (0, 0, 0, 0, missing, 0))
        newest = motion[:, :, NUM_FRAMES_4X + NUM_FRAMES_2X :]
        middle = motion[:, :, NUM_FRAMES_4X : NUM_FRAMES_4X + NUM_FRAMES_2X]
        oldest = motion[:, :, :NUM_FRAMES_4X]
        return torch.cat([self.proj(newest), self.proj_2x(middle), self.proj_4x(oldest)])
