"""A preset as a command line names it: its sizes, and the two that a deployment may choose."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import typer

from networks.presets import PRESETS, Preset
from pipeline.denoising.schedule import MAX_STEPS

SIZE_HELP = "height x width of the video in pixels, such as 832x448; the preset's if not given"
STEPS_HELP = f"denoising steps, 1 to {MAX_STEPS}; the preset's if not given"


def preset_named(name: str, size: str | None = None, num_steps: int | None = None) -> Preset:
    """The preset `name`, for videos of another `size` or with other steps where they are given."""
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


def slice_of(preset: Preset, num_layers: int) -> Preset:
    """A preset whose DiT and text encoder have their first layers only, at their full width."""
    if not 1 <= num_layers <= preset.dit.num_layers:
        raise ValueError(f"{num_layers} layers, wanted 1..{preset.dit.num_layers}")
    injected = tuple(i for i in preset.dit.inject_layers if i < num_layers)
    dit = dataclasses.replace(preset.dit, num_layers=num_layers, inject_layers=injected)
    num_text = min(num_layers, preset.text.num_layers)
    text = dataclasses.replace(preset.text, num_layers=num_text)
    pipeline = dataclasses.replace(preset.pipeline, num_layers=num_layers)
    return dataclasses.replace(preset, dit=dit, text=text, pipeline=pipeline)


def deployed(preset: Preset, **pipeline: Any) -> Preset:
    """The preset with other values of its PipelineConfig; weights fit all of them."""
    changed = dataclasses.replace(preset.pipeline, **pipeline)
    return dataclasses.replace(preset, pipeline=changed)
