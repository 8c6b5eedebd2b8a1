"""Presets as a command line names them, and fresh weights for one.

    python -m export.presets --preset demo --out DIR

writes random weights of sane scales for every network of the preset. Equal seeds give equal bytes.
"""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from torch import nn

from export.commands import failing_in_words
from networks.audio_encoder import AudioEncoder
from networks.causal_wan import CausalWan
from networks.checkpoint import build_seeded, save_checkpoint
from networks.compact_vae import build_vae
from networks.dit import DiT
from networks.presets import PRESETS, Preset
from networks.rolling_presets import ROLLING_PRESETS, RollingPreset
from networks.text_encoder import TextEncoder, checkpoint_keys, module_key
from pipeline.config.avatar import PipelineConfig
from pipeline.config.rolling import RollingConfig
from pipeline.denoising.schedule import MAX_STEPS

AnyPreset = Preset | RollingPreset
Sized = TypeVar("Sized", Preset, RollingPreset, AnyPreset)
NAMES = ", ".join(sorted({**PRESETS, **ROLLING_PRESETS}))
AnyName = Annotated[str, typer.Option(help=f"which sizes: {NAMES}")]
AvatarName = Annotated[str, typer.Option(help="which sizes: " + ", ".join(PRESETS))]


def preset_named(name: str, size: str | None = None, num_steps: int | None = None) -> Preset:
    """The avatar's preset `name`, with another size of the video or other steps if given."""
    if name not in PRESETS:
        raise typer.BadParameter(f"no preset {name!r}, there are {', '.join(sorted(PRESETS))}")
    chosen: dict[str, int] = {}
    if size is not None:
        if (sides := re.fullmatch(r"(\d+)x(\d+)", size)) is None:
            raise typer.BadParameter(f"size is {size!r}, wanted height x width such as 832x448")
        chosen |= {"height": int(sides[1]), "width": int(sides[2])}
    if num_steps is not None:
        if not 1 <= num_steps <= MAX_STEPS:
            raise typer.BadParameter(f"{num_steps} steps, wanted 1..{MAX_STEPS}")
        chosen["num_steps"] = num_steps
    try:
        return deployed(PRESETS[name], **chosen)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def any_preset(name: str, size: str | None = None, num_steps: int | None = None) -> AnyPreset:
    """A preset of either system; one of text-to-video has its size and steps."""
    if name not in ROLLING_PRESETS:
        return preset_named(name, size, num_steps)
    if size or num_steps:
        raise typer.BadParameter(f"preset {name} has one size and one schedule")
    return ROLLING_PRESETS[name]


def config_of(preset: AnyPreset) -> PipelineConfig | RollingConfig:
    """The numbers that a server of the preset reads."""
    return preset.stream if isinstance(preset, RollingPreset) else preset.pipeline


def deployed(preset: Preset, **pipeline: Any) -> Preset:
    """The preset with other values of its PipelineConfig; weights fit all of them."""
    changed = dataclasses.replace(preset.pipeline, **pipeline)
    return dataclasses.replace(preset, pipeline=changed)


def slice_of(preset: Sized, num_layers: int) -> Sized:
    """The preset with the first layers of its transformer only, at their full width. The avatar's
    text encoder is cut as well."""
    if isinstance(preset, RollingPreset):
        wan = dataclasses.replace(preset.wan, num_layers=num_layers)
        stream = dataclasses.replace(preset.stream, num_layers=num_layers)
        return dataclasses.replace(preset, wan=wan, stream=stream)
    if not 1 <= num_layers <= preset.dit.num_layers:
        raise ValueError(f"{num_layers} layers, wanted 1..{preset.dit.num_layers}")
    injected = tuple(i for i in preset.dit.inject_layers if i < num_layers)
    dit = dataclasses.replace(preset.dit, num_layers=num_layers, inject_layers=injected)
    num_text = min(num_layers, preset.text.num_layers)
    text = dataclasses.replace(preset.text, num_layers=num_text)
    pipeline = dataclasses.replace(preset.pipeline, num_layers=num_layers)
    return dataclasses.replace(preset, dit=dit, text=text, pipeline=pipeline)


def builders(preset: AnyPreset) -> dict[str, Callable[[], nn.Module]]:
    """Component (stem of its safetensors file) -> what builds the network. ValueError if a
    text-to-video preset lacks a network that a server needs."""
    vae, text = preset.vae, preset.text
    if vae is None or text is None:
        raise ValueError(f"preset {preset.name} has no VAE or no text encoder, a server needs both")
    shared: dict[str, Callable[[], nn.Module]] = {
        "vae": lambda: build_vae(vae),
        "text_encoder": lambda: TextEncoder(text),
    }
    if isinstance(preset, RollingPreset):
        return {"wan": lambda: CausalWan(preset.wan), **shared}
    return {
        "dit": lambda: DiT(preset.dit),
        "vae": shared["vae"],
        "audio_encoder": lambda: AudioEncoder(preset.audio),
        "text_encoder": shared["text_encoder"],
    }


def init_weights(preset: AnyPreset, out_dir: Path, seed: int) -> list[Path]:
    """Write `<component>.safetensors` of every component in float32; returns the files."""
    networks, paths = builders(preset), []
    assert preset.text is not None
    text_keys = {module_key(key): key for key in checkpoint_keys(preset.text)}
    for offset, (name, build) in enumerate(networks.items()):
        path = out_dir / f"{name}.safetensors"
        module = build_seeded(build, seed + offset)
        save_checkpoint(module, path, key_of=text_keys if name == "text_encoder" else None)
        paths.append(path)
    return paths


@failing_in_words()
def main(
    preset: AnyName,
    out: Annotated[Path, typer.Option(help="folder to be written")],
    seed: Annotated[int, typer.Option(help="of the random weights")] = 0,
) -> None:
    """Write random weights with sane scales, for trying things out before training."""
    for path in init_weights(any_preset(preset), out, seed):
        typer.echo(f"{path} {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    typer.run(main)
