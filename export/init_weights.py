"""Fresh, seeded weights of a preset: `python -m export.init_weights --preset demo --out DIR`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from torch import nn

from export.checkpoint.cli import failing_in_words
from export.preset_options import preset_named
from networks.audio_encoder import AudioEncoder
from networks.causal_wan import CausalWan
from networks.checkpoint import build_seeded, save_checkpoint
from networks.compact_vae import build_vae
from networks.dit import DiT
from networks.presets import PRESETS, Preset
from networks.rolling_presets import ROLLING_PRESETS, RollingPreset
from networks.text_encoder import TextEncoder, checkpoint_keys, module_key


def builders(preset: Preset | RollingPreset) -> dict[str, Callable[[], nn.Module]]:
    """Component name (of its safetensors file) -> what builds the network."""
    if isinstance(preset, RollingPreset):
        vae, text = preset.vae, preset.text
        if vae is None or text is None:
            raise ValueError(f"preset {preset.name} has no VAE or no text encoder")
        return {
            "wan": lambda: CausalWan(preset.wan),
            "vae": lambda: build_vae(vae),
            "text_encoder": lambda: TextEncoder(text),
        }
    return {
        "dit": lambda: DiT(preset.dit),
        "vae": lambda: build_vae(preset.vae),
        "audio_encoder": lambda: AudioEncoder(preset.audio),
        "text_encoder": lambda: TextEncoder(preset.text),
    }


def init_weights(preset: Preset | RollingPreset, out_dir: Path, seed: int) -> list[Path]:
    """Write `<component>.safetensors` of every component, float32; equal seeds, equal bytes."""
    networks, paths = builders(preset), []
    assert preset.text is not None
    text_keys = {module_key(key): key for key in checkpoint_keys(preset.text)}
    for offset, (name, build) in enumerate(networks.items()):
        path = out_dir / f"{name}.safetensors"
        module = build_seeded(build, seed + offset)
        save_checkpoint(module, path, key_of=text_keys if name == "text_encoder" else None)
        paths.append(path)
    return paths


@failing_in_words
def main(
    preset: Annotated[
        str, typer.Option(help="which sizes: " + ", ".join(sorted({**PRESETS, **ROLLING_PRESETS})))
    ],
    out: Annotated[Path, typer.Option(help="folder to be written")],
    seed: Annotated[int, typer.Option(help="of the random weights")] = 0,
) -> None:
    """Write random weights with sane scales, for trying things out before training."""
    found = ROLLING_PRESETS[preset] if preset in ROLLING_PRESETS else preset_named(preset)
    for path in init_weights(found, out, seed):
        typer.echo(f"{path} {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    typer.run(main)
