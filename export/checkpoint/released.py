"""Where the released folder `Wan2.2-S2V-14B/` keeps each component (docs/method.md section 7), and
the network each has to fit."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from export.checkpoint.files import (
    PickledWeights,
    SafetensorsWeights,
    Weights,
    open_weights,
    read_header,
)
from export.checkpoint.fit import Rename, misfits
from export.presets import builders
from networks import audio_encoder, text_encoder
from networks.presets import Preset

DIT_STEM = "diffusion_pytorch_model"
VAE_FILE = "Wan2.1_VAE.pth"
TEXT_FILE = "models_t5_umt5-xxl-enc-bf16.pth"
AUDIO_FOLDER = "wav2vec2-large-xlsr-53-english"
AUDIO_FILES = ("model.safetensors", "pytorch_model.bin")
"""Of these the first that is there is read; both hold the same."""
TOKENIZER = Path("google", "umt5-xxl", "tokenizer.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One network of the release."""

    name: str  # stem of its safetensors file once prepared
    open: Callable[[Path], Weights]
    """The release's folder -> its tensors; ValueError or OSError if they cannot be read."""
    rename: Rename = lambda key: key
    dtype: torch.dtype | None = None
    """What the released file holds where another type would have lost digits."""

    def build(self, preset: Preset) -> nn.Module:
        """Its network on the meta device: names and shapes."""
        with torch.device("meta"):
            return builders(preset)[self.name]()

    def fitting(self, folder: Path, preset: Preset) -> tuple[Weights | None, list[str]]:
        """The component's tensors, None if unreadable, and what is wrong with them."""
        try:
            weights = self.open(folder)
        except (ValueError, OSError) as error:
            return None, [f"{self.name}: {error}"]
        lines = misfits(self.build(preset), weights, self.rename)
        return weights, [f"{self.name}: {line}" for line in lines]

    def unused(self, weights: Weights) -> list[str]:
        """Keys of tensors that no network here has."""
        return [key for key in weights.infos if self.rename(key) is None]


def _open_audio(folder: Path) -> Weights:
    for path in (folder / AUDIO_FOLDER / name for name in AUDIO_FILES):
        if path.is_file():
            is_safe = path.suffix == ".safetensors"
            return SafetensorsWeights(read_header(path)) if is_safe else PickledWeights(path)
    raise ValueError(f"{folder / AUDIO_FOLDER}: has neither {' nor '.join(AUDIO_FILES)}")


COMPONENTS = (
    Component(name="dit", open=lambda folder: open_weights(folder, DIT_STEM)),
    Component(
        name="vae", open=lambda folder: PickledWeights(folder / VAE_FILE), dtype=torch.float32
    ),
    Component(
        name="text_encoder",
        open=lambda folder: PickledWeights(folder / TEXT_FILE),
        rename=text_encoder.module_key,
    ),
    Component(name="audio_encoder", open=_open_audio, rename=audio_encoder.module_key),
)


def check_config(folder: Path, preset: Preset) -> list[str]:
    """What `config.json` says otherwise than the preset; every value that matters must be there."""
    path = folder / "config.json"
    try:
        values: dict[str, Any] = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        return [f"config: {path}: {error}"]
    return [
        f"config: {path.name}: {name} is {values.get(name, 'missing')!r}, wanted {wanted!r}"
        for name, wanted in config_of(preset).items()
        if name not in values or values[name] != wanted
    ]


def config_of(preset: Preset) -> dict[str, Any]:
    """The values of the release's `config.json` that a network of these sizes stands for."""
    dit = preset.dit
    return {
        "dim": dit.dim,
        "ffn_dim": dit.ffn_dim,
        "freq_dim": dit.freq_dim,
        "num_heads": dit.num_heads,
        "num_layers": dit.num_layers,
        "in_dim": dit.channels,
        "out_dim": dit.channels,
        "cond_dim": dit.channels,
        "audio_dim": dit.audio_dim,
        "num_audio_token": dit.num_audio_tokens,
        "audio_inject_layers": list(dit.inject_layers),
        "enable_adain": True,
        "adain_mode": "attn_norm",
        "zero_timestep": True,
        "enable_framepack": True,
        "framepack_drop_mode": "padd",
    }


def missing_tokenizer(folder: Path, preset: Preset) -> list[str]:
    """What is to be said if the preset needs a tokenizer's file and the release lacks it."""
    path = folder / TOKENIZER
    needs = preset.pipeline.tokenizer != "bytes" and not path.is_file()
    return [f"tokenizer: {path} is missing"] if needs else []
