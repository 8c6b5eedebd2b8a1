"""Takes as what the diffusion model is given: the encoders' outputs, cut as the server cuts them.

B takes
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from networks.audio_encoder import AudioEncoder
from networks.audio_encoder import module_key as audio_key
from networks.checkpoint import load_checkpoint
from networks.compact_vae import CompactVAE, build_vae
from networks.presets import Preset
from networks.text_encoder import TextEncoder
from networks.text_encoder import module_key as text_key
from networks.vae import VAE
from pipeline.avatar.audio import AudioWindow, StreamingAudio
from pipeline.config.avatar import PipelineConfig
from pipeline.sessions.text import Tokenizer
from train.encoders.features import block_features
from train.evaluate.takes import Take
from train.network.batched_dit import Conditions
from train.vae.clips import to_video

MOTION_FRAMES = 73
"""Frames that the reference picture is repeated for: 19 latents."""
WINDOWS = 32
"""Audio windows encoded together."""


@dataclass(frozen=True, slots=True)
class Encoders:
    """The three frozen networks in front of the DiT."""

    config: PipelineConfig
    vae: CompactVAE | VAE
    audio: AudioEncoder
    text: TextEncoder

    @classmethod
    def load(cls, folder: Path, preset: Preset) -> Encoders:
        """From vae, audio_encoder and text_encoder.safetensors; ValueError if they don't fit."""
        audio = load_checkpoint(
            AudioEncoder(preset.audio), folder / "audio_encoder.safetensors", rename=audio_key
        )
        text = load_checkpoint(
            TextEncoder(preset.text), folder / "text_encoder.safetensors", rename=text_key
        )
        vae = load_checkpoint(build_vae(preset.vae), folder / "vae.safetensors")
        return cls(preset.pipeline, vae, audio, text)

    @torch.no_grad()
    def conditions(self, takes: Sequence[Take]) -> Conditions:
        pictures = to_video(np.stack([take.reference for take in takes])[:, None])
        motion = self.vae.encode(pictures, MOTION_FRAMES)
        return Conditions(
            reference=motion[:, :, :1],
            motion=motion,
            text=torch.cat([self._text(take.caption) for take in takes]),
            audio=torch.stack([self._audio(take.audio) for take in takes]),
        )

    def _text(self, caption: str) -> Tensor:
        inputs = Tokenizer(self.config, Path())(caption)
        return self.text(*(torch.from_numpy(v) for v in inputs.values()))

    def _audio(self, samples: np.ndarray) -> Tensor:
        """[layers, C, frames of all blocks]."""
        stream = StreamingAudio(self.config)
        windows: list[AudioWindow] = []
        features: list[Tensor] = []
        stream.append(samples)
        stream.finish()
        while (window := stream.next_window()) is not None:
            windows.append(window)
            if len(windows) == WINDOWS:
                features.append(block_features(self.audio, windows))
                windows = []
        if windows:
            features.append(block_features(self.audio, windows))
        return torch.cat(list(torch.cat(features)), -1)
