"""A component's weights in the element types that its graphs compute in."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from export.checkpoint.files import SafetensorsWeights, Weights
from export.checkpoint.lora import as_stored
from export.checkpoint.writer import component_files, write_component
from export.graphs.fp8 import SCALE, Fp8Weights
from export.graphs.precision import RoundedWeights
from export.repository.folders import link_or_copy


def in_types(stored: Weights, dtype: torch.dtype, layers: Sequence[str] = ()) -> Weights:
    """The weights as the graphs want them; nothing is converted yet."""
    rounded = RoundedWeights(stored, dtype)
    return Fp8Weights(rounded, layers, dtype) if layers else rounded


def types_of(weights: Weights) -> dict[str, torch.dtype]:
    return {key: info.dtype for key, info in weights.infos.items()}


def write_weights(wanted: Weights, stored: SafetensorsWeights, stem: str, folder: Path) -> None:
    """Write a component in the wanted types, parted into shards as it was stored.

    Nothing is written anew where the types already fit: one file is copied, shards are linked if
    the file system allows it. Symbolic links won't do: runtimes refuse weights behind them.
    """
    if types_of(wanted) == types_of(stored):
        lay = link_or_copy if len(stored.files) > 1 else shutil.copyfile
        for path in component_files(stored.files[0].parent, stem):
            lay(path, folder / path.name)
        return
    shards = [
        {
            name: wanted.infos[name]
            for key in shard
            for name in (key, key + SCALE)
            if name in wanted.infos
        }
        for shard in as_stored(stored)
    ]
    write_component(folder, stem, shards, wanted.chunks)
