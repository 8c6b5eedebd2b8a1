"""The three frozen networks in front of the DiT."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from networks.audio_encoder import AudioEncoder
from networks.audio_encoder import module_key as audio_key
from networks.checkpoint import load_checkpoint
from networks.compact_vae import CompactVAE, build_vae
from networks.text_encoder import TextEncoder
from networks.text_encoder import module_key as text_key
from networks.vae import VAE
from pipeline.config.avatar import PipelineConfig
from pipeline.sessions.text import Tokenizer
from train.preset import PRESET


@dataclass(frozen=True)
class FrozenNetworks:
    """What turns pictures, sound and words into the DiT's inputs."""

    config: PipelineConfig
    vae: CompactVAE | VAE
    audio: AudioEncoder
    text: TextEncoder
    folder: Path = Path()
    """Of their files."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """From vae, audio_encoder and text_encoder.safetensors; ValueError if they don't fit."""
        audio, text = AudioEncoder(PRESET.audio), TextEncoder(PRESET.text)
        load_checkpoint(audio, folder / "audio_encoder.safetensors", rename=audio_key)
        load_checkpoint(text, folder / "text_encoder.safetensors", rename=text_key)
        vae = load_checkpoint(build_vae(PRESET.vae), folder / "vae.safetensors")
        return cls(PRESET.pipeline, vae, audio, text, folder)

    @property
    def still_frames(self) -> int:
        """Frames that the reference picture is repeated for: as many latents as motion has."""
        return 1 + self.config.temporal_stride * (self.config.motion_frames - 1)

    @cached_property
    def digest(self) -> str:
        """Tells weights and audio windows apart; what only decodes does not count."""
        parts = {"audio": self.audio, "text": self.text, "vae": self.vae}
        windows = (self.config.audio_context_frames, self.config.audio_lookahead_frames)
        digest = hashlib.sha256(repr(windows).encode())
        for part, module in parts.items():
            for name, tensor in sorted(module.state_dict().items()):
                if not (part == "vae" and name.startswith("decoder")):
                    digest.update(f"{part}.{name}".encode() + tensor.numpy().tobytes())
        return digest.hexdigest()[:16]

    def text_rows(self, prompt: str) -> Tensor:
        """[1, text_len, text_dim]."""
        inputs = Tokenizer(self.config, self.folder)(prompt)
        return self.text(**{name: torch.from_numpy(value) for name, value in inputs.items()})
