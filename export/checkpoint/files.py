"""Weights on disk, tensor by tensor: safetensors in one file or in shards, and PyTorch pickles.

What is opened here reads headers only. Numbers are read in chunks of rows, so that a tensor of
gigabytes passes through megabytes of memory.
"""

import json
import math
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from torch import Tensor

from networks.checkpoint import DTYPES

CHUNK_BYTES = 1 << 25
"""Most that is read of one tensor at once, but for a single row that is larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """Element type and shape of a tensor that may not have been read."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor(TensorInfo):
    """A tensor of a safetensors file: `num_bytes` from byte `offset` of `path`."""

    path: Path
    offset: int


class Weights(Protocol):
    """A component's tensors by key, whatever file they lie in."""

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        """What every tensor is; nothing is read."""
        ...

    @property
    def files(self) -> list[Path]:
        """The files that hold them, in order."""
        ...

    def chunks(self, key: str) -> Iterator[Tensor]:
        """The tensor in pieces of whole rows (first axis), in order; a scalar as it is."""
        ...


def read(weights: Weights, key: str) -> Tensor:
    """One whole tensor."""
    pieces = list(weights.chunks(key))
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def rows_per_chunk(info: TensorInfo) -> int:
    """Rows of the first axis that fit CHUNK_BYTES, at least one."""
    return max(1, CHUNK_BYTES * info.shape[0] // max(info.num_bytes, 1)) if info.shape else 1


class SafetensorsWeights:
    """Tensors of one or more safetensors files."""

    def __init__(self, infos: Mapping[str, StoredTensor]) -> None:
        self.infos = infos

    @property
    def files(self) -> list[Path]:
        return sorted({stored.path for stored in self.infos.values()})

    def chunks(self, key: str) -> Iterator[Tensor]:
        stored = self.infos[key]
        with safe_open(stored.path, "pt") as file:
            if not stored.shape:
                yield file.get_tensor(key)
                return
            rows, step = file.get_slice(key), rows_per_chunk(stored)
            for start in range(0, max(stored.shape[0], 1), step):
                yield rows[start : start + step]


class PickledWeights:
    """Tensors of a PyTorch file, which must be a flat dict of tensors and hold no code."""

    def __init__(self, path: Path) -> None:
        """ValueError if the file is damaged, wants to run code, or holds something else."""
        self.path = path
        self.infos = {
            key: TensorInfo(dtype=tensor.dtype, shape=tuple(tensor.shape))
            for key, tensor in _unpickle(path, map_location="meta").items()
        }
        self._tensors: dict[str, Tensor] | None = None

    @property
    def files(self) -> list[Path]:
        return [self.path]

    def chunks(self, key: str) -> Iterator[Tensor]:
        if self._tensors is None:
            new_format = zipfile.is_zipfile(self.path)  # the old one has to be read whole
            self._tensors = _unpickle(self.path, map_location="cpu", mmap=new_format)
        tensor = self._tensors[key]
        yield from (
            torch.split(tensor, rows_per_chunk(self.infos[key])) if tensor.dim() else [tensor]
        )


def _unpickle(path: Path, **options: Any) -> dict[str, Tensor]:
    try:
        state: object = torch.load(path, weights_only=True, **options)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: refused, it is not plain tensors: {reason}") from None
    except (RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path}: not a readable PyTorch file: {error}") from None
    found: dict[str, Any] = state if isinstance(state, dict) else {type(state).__name__: None}
    if others := [str(key) for key, value in found.items() if not isinstance(value, Tensor)]:
        raise ValueError(f"{path}: wanted a flat dict of tensors, it has {', '.join(others)}")
    return found


def open_weights(folder: Path, stem: str) -> SafetensorsWeights:
    """`<stem>.safetensors` of `folder`, or the shards of `<stem>.safetensors.index.json`.
    ValueError names every shard and key on which files and index disagree."""
    single, index = folder / f"{stem}.safetensors", index_path(folder, stem)
    if single.is_file() and index.is_file():
        raise ValueError(f"{folder}: has both {single.name} and {index.name}; remove one")
    if single.is_file():
        return SafetensorsWeights(read_header(single))
    if not index.is_file():
        raise ValueError(f"{folder}: has neither {single.name} nor {index.name}")
    return SafetensorsWeights(_read_shards(index, stem))


def index_path(folder: Path, stem: str) -> Path:
    return folder / f"{stem}.safetensors.index.json"


def _read_shards(index: Path, stem: str) -> dict[str, StoredTensor]:
    try:
        placed: dict[str, str] = json.loads(index.read_text())["weight_map"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{index}: not an index of shards ({error!r})") from None
    named = sorted(set(placed.values()))
    problems = [f"shard {name} is missing" for name in named if not _is_beside(index, name)]
    strays = {path.name for path in index.parent.glob(f"{stem}-*.safetensors")} - set(named)
    problems += [f"shard {name} is not in the index" for name in sorted(strays)]
    infos: dict[str, StoredTensor] = {}
    for name in named:
        if not _is_beside(index, name):
            continue
        header = read_header(index.parent / name)
        wanted = {key for key, file in placed.items() if file == name}
        problems += [f"{name}: {key} is missing" for key in sorted(wanted - set(header))]
        problems += [f"{name}: {key} is not in the index" for key in sorted(set(header) - wanted)]
        infos.update({key: header[key] for key in header if key in wanted})
    if problems:
        raise ValueError(f"{index}: " + "; ".join(problems))
    return infos


def _is_beside(index: Path, name: str) -> bool:
    return Path(name).name == name and (index.parent / name).is_file()


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Tensors of a safetensors file in the order of its header; ValueError if it is damaged."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        data_start = 8 + int.from_bytes(start, "little")
        if len(start) < 8 or data_start > size:
            raise ValueError(f"{path}: {size} bytes end inside its header; the file is truncated")
        try:
            header = json.loads(file.read(data_start - 8))
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise ValueError(f"{path}: not a safetensors file, its header is not JSON") from None
    header.pop("__metadata__", None)
    infos = {key: _stored(path, key, entry, data_start) for key, entry in header.items()}
    end = max((info.offset + info.num_bytes for info in infos.values()), default=data_start)
    if end != size:
        word = "truncated" if size < end else "followed by something else"
        raise ValueError(f"{path}: is {size} bytes, its header says {end}: it is {word}")
    return infos


def _stored(path: Path, key: str, entry: dict[str, Any], data_start: int) -> StoredTensor:
    if entry["dtype"] not in DTYPES:
        raise ValueError(f"{path}: {key} is {entry['dtype']}, known are {', '.join(DTYPES)}")
    begin, end = entry["data_offsets"]
    dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
    stored = StoredTensor(dtype=dtype, shape=shape, path=path, offset=data_start + begin)
    if end - begin != stored.num_bytes:
        raise ValueError(
            f"{path}: {key} {list(stored.shape)} takes {stored.num_bytes} bytes, "
            f"the header gives it {end - begin}"
        )
    return stored
