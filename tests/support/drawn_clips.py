"""A folder of latent clips of drawn numbers, for tests of what learns from such folders."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from train.preset import PRESET

NUM_CLIPS, NUM_BLOCKS = 4, 3


def write_clips(folder: Path) -> None:
    """One shard of `NUM_CLIPS` clips in `folder`, of numbers that float16 holds exactly."""
    c, generator = PRESET.pipeline, torch.Generator().manual_seed(0)
    frames, picture = NUM_BLOCKS * c.frames_per_block, (c.latent_height, c.latent_width)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(NUM_CLIPS, *shape, generator=generator).half()

    tensors = {
        "latents": normal(c.latent_channels, frames, *picture),
        "audio_features": normal(NUM_BLOCKS, c.audio_layers, c.audio_dim, c.video_frames_per_block),
        "text": normal(c.text_len, c.text_dim),
        "reference": normal(c.latent_channels, 1, *picture),
        "motion": normal(c.latent_channels, c.motion_frames, *picture),
        "mouth": normal(NUM_BLOCKS * c.video_frames_per_block, 3),
        "regions": normal(frames, 2, *picture).abs().clamp(max=1),
        "first_block": torch.tensor([0, 0, 3, 5]),
        "empty_text": torch.zeros(c.text_len, c.text_dim).half(),
    }
    about = [{"seed": i, "mood": "neutral"} for i in range(NUM_CLIPS)]
    metadata = {"weights": "none", "clips": json.dumps(about)}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "0.safetensors", metadata=metadata)
