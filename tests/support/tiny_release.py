"""A folder laid out as the release's, of networks so small that a test can write it."""

import dataclasses
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from export.checkpoint.files import TensorInfo
from export.checkpoint.released import AUDIO_FOLDER, DIT_STEM, TEXT_FILE, VAE_FILE, config_of
from export.checkpoint.writer import shards_of, write_component
from networks import text_encoder
from networks.audio_encoder import AudioEncoder
from networks.checkpoint import build_seeded
from networks.compact_vae import build_vae
from networks.dit import DiT
from networks.lora import PREFIX, lora_targets
from networks.presets import PRESETS, Preset

NUM_SHARDS = 3
RANK, ALPHA = 4, 2.0


def tiny_preset() -> Preset:
    """The demo's, with two layers of 32 channels."""
    demo = PRESETS["demo"]
    dit = dataclasses.replace(
        demo.dit, dim=32, ffn_dim=64, num_heads=2, num_layers=2, inject_layers=(0,)
    )
    pipeline = dataclasses.replace(demo.pipeline, num_layers=2, num_heads=2, head_dim=16)
    return dataclasses.replace(demo, dit=dit, pipeline=pipeline)


def write_release(folder: Path, preset: Preset) -> Path:
    """All files of `Wan2.2-S2V-14B/` but the tokenizer; the DiT in bfloat16 shards."""
    dit = {
        k: t.bfloat16() for k, t in build_seeded(lambda: DiT(preset.dit), 0).state_dict().items()
    }
    write_sharded(folder, DIT_STEM, dit)
    (folder / "config.json").write_text(json.dumps(config_of(preset)))
    torch.save(build_seeded(lambda: build_vae(preset.vae), 1).state_dict(), folder / VAE_FILE)
    text = build_seeded(lambda: text_encoder.TextEncoder(preset.text), 2).state_dict()
    keys = text_encoder.checkpoint_keys(preset.text)
    state = {key: text[text_encoder.module_key(key)].bfloat16() for key in keys}
    torch.save(state, folder / TEXT_FILE)
    audio = build_seeded(lambda: AudioEncoder(preset.audio), 3).state_dict()
    (folder / AUDIO_FOLDER).mkdir()
    unused = {"lm_head.weight": torch.zeros(2, 2)}
    save_file(audio | unused, folder / AUDIO_FOLDER / "model.safetensors")
    return folder


def write_sharded(folder: Path, stem: str, state: dict[str, Tensor]) -> None:
    """Safetensors in NUM_SHARDS files with their index."""
    infos = {k: TensorInfo(dtype=t.dtype, shape=tuple(t.shape)) for k, t in state.items()}
    size = sum(info.num_bytes for info in infos.values())
    shards = shards_of(infos, most=size // NUM_SHARDS + max(i.num_bytes for i in infos.values()))
    write_component(folder, stem, shards, lambda key: [state[key]])


def lora_state(preset: Preset, rank: int = RANK) -> dict[str, Tensor]:
    """Updates of all layers that the release's LoRA changes, under its keys."""
    with torch.device("meta"):
        shapes = {key: tensor.shape for key, tensor in DiT(preset.dit).state_dict().items()}
    generator = torch.Generator().manual_seed(4)
    state = {}
    for key in lora_targets(shapes):
        name, (outputs, inputs) = PREFIX + key.removesuffix(".weight"), shapes[key]
        for side, shape in (("A", (rank, inputs)), ("B", (outputs, rank))):
            tensor = torch.randn(shape, generator=generator)
            state[f"{name}.lora_{side}.default.weight"] = tensor
    return state
