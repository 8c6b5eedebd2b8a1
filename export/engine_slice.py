"""The released sizes in small: the first layers of a DiT at its full width, weights of zeros."""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from pathlib import Path

import torch

from networks.dit import DiT
from networks.presets import Preset

SLICE_LAYERS = 2


def slice_of(preset: Preset, num_layers: int = SLICE_LAYERS) -> Preset:
    """A preset whose DiT has its first layers only, with audio injected after the first one."""
    dit = dataclasses.replace(preset.dit, num_layers=num_layers, inject_layers=(0,))
    pipeline = dataclasses.replace(preset.pipeline, num_layers=num_layers)
    return dataclasses.replace(preset, dit=dit, pipeline=pipeline)


def write_zeros(preset: Preset, folder: Path, dtype: torch.dtype = torch.bfloat16) -> Path:
    """`dit.safetensors` of a preset, all weights zero: a file that takes no room on the disk."""
    with torch.device("meta"):
        state = DiT(preset.dit).state_dict()
    entries, offset = {}, 0
    for key in sorted(state):
        size = math.prod(state[key].shape) * dtype.itemsize
        entry = {"dtype": "BF16", "shape": list(state[key].shape)}
        entries[key] = {**entry, "data_offsets": [offset, offset + size]}
        offset += size
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    path = folder / "dit.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + offset)
    return path
