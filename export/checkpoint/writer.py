"""Safetensors files written tensor by tensor, in memory of one chunk, and all or nothing."""

import json
import math
import os
import shutil
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from export.checkpoint.files import TensorInfo, index_path
from export.repository.folders import link_or_copy
from networks.checkpoint import DTYPES

NAMES = {dtype: name for name, dtype in DTYPES.items()}
MAX_SHARD_BYTES = 10_000_000_000
"""A component that is larger is written in shards, each at most so large."""

Shard = Mapping[str, TensorInfo]
Chunks = Callable[[str], Iterable[Tensor]]
"""Key -> the tensor's rows in order, in the promised element type."""


def shards_of(infos: Mapping[str, TensorInfo], most: int = MAX_SHARD_BYTES) -> list[Shard]:
    """Tensors in the order given, parted wherever a shard would exceed `most` bytes."""
    shards: list[dict[str, TensorInfo]] = [{}]
    size = 0
    for key, info in infos.items():
        if shards[-1] and size + info.num_bytes > most:
            shards.append({})
            size = 0
        shards[-1][key] = info
        size += info.num_bytes
    return list(shards)


def write_component(
    folder: Path,
    stem: str,
    shards: Sequence[Shard],
    chunks: Chunks,
    on_tensor: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Write `<stem>.safetensors`, or shards with an index if there are several; returns the files.

    An earlier version of the component is replaced when the new one is complete. ValueError if the
    disk has too little room; whatever goes wrong, nothing half-written is left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    needed = sum(info.num_bytes for shard in shards for info in shard.values())
    if (free := shutil.disk_usage(folder).free) < needed:
        raise ValueError(
            f"{folder}: {stem} needs {needed / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB free"
        )

    write = partial(_write_file, chunks=chunks, on_tensor=on_tensor)
    return _install(folder, stem, shards, lambda path, number: write(path, shards[number]))


def link_component(
    folder: Path, stem: str, shards: Sequence[Shard], files: Sequence[Path]
) -> list[Path]:
    """Have `files`, which hold `shards`, in `folder` under the component's names, unchanged."""
    folder.mkdir(parents=True, exist_ok=True)
    return _install(folder, stem, shards, lambda path, number: link_or_copy(files[number], path))


def _install(
    folder: Path, stem: str, shards: Sequence[Shard], write: Callable[[Path, int], None]
) -> list[Path]:
    """Have every shard written, and its place taken when all are; older versions are removed."""
    scratch = folder / f".{stem}.new-{os.getpid()}"
    scratch.mkdir()
    try:
        names = shard_names(stem, len(shards))
        for number, name in enumerate(names):
            write(scratch / name, number)
        if len(shards) > 1:
            write_index(scratch, stem, dict(zip(names, shards, strict=True)))
        made = sorted(path.name for path in scratch.iterdir())
        for name in made:
            (scratch / name).replace(folder / name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for old in component_files(folder, stem):
        if old.name not in made:
            old.unlink()
    return [folder / name for name in made]


def shard_names(stem: str, count: int) -> list[str]:
    if count == 1:
        return [f"{stem}.safetensors"]
    return [f"{stem}-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]


def write_index(folder: Path, stem: str, shards: Mapping[str, Shard]) -> None:
    """The index of shards by file name, in Hugging Face's format."""
    size = sum(info.num_bytes for shard in shards.values() for info in shard.values())
    placed = {key: name for name, shard in shards.items() for key in shard}
    content = {"metadata": {"total_size": size}, "weight_map": dict(sorted(placed.items()))}
    index_path(folder, stem).write_text(json.dumps(content, indent=2) + "\n")


def component_files(folder: Path, stem: str) -> list[Path]:
    """All files that belong to a component: the single one, shards, index."""
    patterns = (f"{stem}.safetensors", f"{stem}-*-of-*.safetensors", f"{stem}.safetensors.index.*")
    return sorted(path for pattern in patterns for path in folder.glob(pattern))


def header_of(shard: Shard) -> tuple[list[str], bytes]:
    """The keys of a safetensors file in the order of their numbers, and what comes before these."""
    # Wide types first, so that every tensor begins at a multiple of its element's size.
    order = sorted(shard, key=lambda key: (-shard[key].dtype.itemsize, key))
    header: dict[str, object] = {}
    end = 0
    for key in order:
        begin, end = end, end + shard[key].num_bytes
        header[key] = {
            "dtype": NAMES[shard[key].dtype],
            "shape": list(shard[key].shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return order, struct.pack("<Q", len(text)) + text


def write_zeros(path: Path, shard: Shard) -> Path:
    """A safetensors file whose numbers are all zero: it takes no room on the disk."""
    _, header = header_of(shard)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + sum(info.num_bytes for info in shard.values()))
    return path


def _write_file(path: Path, shard: Shard, chunks: Chunks, on_tensor: Callable[[str], None]) -> None:
    order, header = header_of(shard)
    with path.open("wb") as file:
        file.write(header)
        for key in order:
            written = 0
            for chunk in chunks(key):
                assert chunk.dtype == shard[key].dtype, f"{key} comes as {chunk.dtype}"
                file.write(_bytes(chunk))
                written += chunk.numel()
            assert written == math.prod(shard[key].shape), f"{key} has {written} numbers"
            on_tensor(key)
    path.chmod(0o644)


def _bytes(tensor: Tensor) -> memoryview:
    """Its numbers as they lie in memory, not copied."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
