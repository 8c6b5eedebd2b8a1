"""Safetensors to modules and back, strictly; seeded fresh weights."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch._guards import detect_fake_mode

Module = TypeVar("Module", bound=nn.Module)
MAX_NAMED = 20
"""Keys that an error lists of each kind."""
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Names of element types in safetensors files."""


def load_tensors(path: Path, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """All tensors of a safetensors file, of its shards (`<path>.index.json` beside them), or of all
    files in a folder; floats cast to `dtype`. Under a FakeTensorMode only headers are read and the
    tensors are fake."""
    fake = detect_fake_mode() is not None
    tensors: dict[str, Tensor] = {}
    for shard in _shards(path):
        with safe_open(shard, "pt") as file:
            for key in file.keys():  # noqa: SIM118, not a dict
                tensor = _fake(file.get_slice(key)) if fake else file.get_tensor(key)
                keep = dtype is None or not tensor.is_floating_point()
                tensors[key] = tensor if keep else tensor.to(dtype)
    return tensors


def _shards(path: Path) -> list[Path]:
    index = path.with_name(f"{path.name}.index.json")
    if path.is_dir():
        shards = sorted(path.glob("*.safetensors"))
    elif index.is_file() and not path.is_file():
        names = set(json.loads(index.read_text())["weight_map"].values())
        shards = [path.with_name(name) for name in sorted(names)]
    else:
        shards = [path]
    if not shards or not all(shard.is_file() for shard in shards):
        raise ValueError(f"{path}: no safetensors file or folder of shards")
    return shards


def _fake(header: Any) -> Tensor:
    """A tensor of one entry of a file's header, for a FakeTensorMode."""
    return torch.empty(header.get_shape(), dtype=DTYPES[header.get_dtype()])


def load_checkpoint(
    module: Module,
    path: Path,
    *,
    dtype: torch.dtype = torch.float32,
    rename: Callable[[str], str | None] | None = None,
) -> Module:
    """Fill `module` from `path` and return it, in eval mode. `rename` maps a checkpoint key to the
    module's, None drops it. ValueError names every missing, unexpected and mis-shaped key; nothing
    is loaded then."""
    tensors = load_tensors(path, dtype)
    if rename is not None:
        tensors = {new: t for key, t in tensors.items() if (new := rename(key)) is not None}
    _check(module.state_dict(), tensors, path)
    module.load_state_dict(tensors, strict=True, assign=True)
    return module.eval().requires_grad_(False)


def _check(wanted: dict[str, Tensor], found: dict[str, Tensor], path: Path) -> None:
    shapes = [{key: tuple(t.shape) for key, t in state.items()} for state in (wanted, found)]
    lines = []
    for kind, keys in differences(*shapes).items():
        rest = f" and {len(keys) - MAX_NAMED} more" if len(keys) > MAX_NAMED else ""
        if keys:
            lines.append(f"{len(keys)} {kind}: {', '.join(keys[:MAX_NAMED])}{rest}")
    if lines:
        raise ValueError(f"{path}: does not fit the network; " + "; ".join(lines))


def differences(
    wanted: Mapping[str, Sequence[int]], found: Mapping[str, Sequence[int]]
) -> dict[str, list[str]]:
    """Keys `missing`, `unexpected` and `mis-shaped` in `found`, given both sides' shapes."""
    return {
        "missing": sorted(set(wanted) - set(found)),
        "unexpected": sorted(set(found) - set(wanted)),
        "mis-shaped": [
            f"{key} {list(found[key])} (wanted {list(wanted[key])})"
            for key in sorted(set(wanted) & set(found))
            if tuple(found[key]) != tuple(wanted[key])
        ],
    }


def save_checkpoint(
    module: nn.Module, path: Path, *, key_of: Mapping[str, str] | None = None
) -> None:
    """Write the module's state, keys sorted, so that equal weights give equal bytes. `key_of` maps
    the module's names to the checkpoint's where these differ."""
    state = module.state_dict()
    if key_of is not None:
        state = {key_of[name]: tensor for name, tensor in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors({key: state[key].detach().contiguous() for key in sorted(state)}, path)


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a safetensors file that everybody may read. A file that lay there is replaced, never
    written into: a repository may hold a link to it."""
    fresh = path.with_name(f".{path.name}.new-{os.getpid()}")
    try:
        save_file(tensors, fresh)
        fresh.chmod(0o644)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def build_seeded(build: Callable[[], Module], seed: int) -> Module:
    """A fresh network whose random weights depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build()
        if isinstance(reset := getattr(module, "reset_parameters", None), Callable):
            reset()
    return module.eval().requires_grad_(False)
