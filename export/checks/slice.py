"""The released sizes in small: a transformer's first layers at full width, weights of zeros."""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from pathlib import Path

import torch

from export import preset_options
from export.init_weights import builders
from networks.presets import Preset
from networks.rolling_presets import RollingPreset

SLICE_LAYERS = 2


def slice_of(
    preset: Preset | RollingPreset, num_layers: int = SLICE_LAYERS
) -> Preset | RollingPreset:
    """The preset with its transformer's first layers only."""
    if isinstance(preset, RollingPreset):
        wan = dataclasses.replace(preset.wan, num_layers=num_layers)
        stream = dataclasses.replace(preset.stream, num_layers=num_layers)
        return dataclasses.replace(preset, wan=wan, stream=stream)
    return preset_options.slice_of(preset, num_layers)


def write_zeros(preset: Preset | RollingPreset, folder: Path) -> Path:
    """The transformer's safetensors in bfloat16, all weights zero: takes no room on the disk."""
    name = "wan" if isinstance(preset, RollingPreset) else "dit"
    with torch.device("meta"):
        state = builders(preset)[name]().state_dict()
    entries, offset = {}, 0
    for key in sorted(state):
        size = math.prod(state[key].shape) * torch.bfloat16.itemsize
        entry = {"dtype": "BF16", "shape": list(state[key].shape)}
        entries[key] = {**entry, "data_offsets": [offset, offset + size]}
        offset += size
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    path = folder / f"{name}.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + offset)
    return path
