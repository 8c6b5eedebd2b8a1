"""Safetensors to modules and back, strictly; seeded fresh weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)
MAX_NAMED = 20
"""Keys that an error lists of each kind."""


def load_tensors(path: Path, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """All tensors of a safetensors file, or of all shards in a folder; floats cast to `dtype`."""
    shards = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not shards or not all(shard.is_file() for shard in shards):
        raise ValueError(f"{path}: no safetensors file or folder of shards")
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        with safe_open(shard, "pt") as file:
            for key in file.keys():  # noqa: SIM118, not a dict
                tensor = file.get_tensor(key)
                keep = dtype is None or not tensor.is_floating_point()
                tensors[key] = tensor if keep else tensor.to(dtype)
    return tensors


def load_checkpoint(
    module: Module,
    path: Path,
    *,
    dtype: torch.dtype = torch.float32,
    rename: Callable[[str], str | None] | None = None,
) -> Module:
    """Fill `module` from `path` and return it, in eval mode.

    `rename` maps a checkpoint key to the module's, None drops it. ValueError names every missing,
    unexpected and mis-shaped key; nothing is loaded then.
    """
    tensors = load_tensors(path, dtype)
    if rename is not None:
        tensors = {new: t for key, t in tensors.items() if (new := rename(key)) is not None}
    _check(module.state_dict(), tensors, path)
    module.load_state_dict(tensors, strict=True, assign=True)
    return module.eval().requires_grad_(False)


def _check(wanted: dict[str, Tensor], found: dict[str, Tensor], path: Path) -> None:
    shapes = [
        f"{key} {list(found[key].shape)} (wanted {list(wanted[key].shape)})"
        for key in sorted(set(wanted) & set(found))
        if found[key].shape != wanted[key].shape
    ]
    problems = {
        "missing": sorted(set(wanted) - set(found)),
        "unexpected": sorted(set(found) - set(wanted)),
        "mis-shaped": shapes,
    }
    lines = []
    for kind, keys in problems.items():
        rest = f" and {len(keys) - MAX_NAMED} more" if len(keys) > MAX_NAMED else ""
        if keys:
            lines.append(f"{len(keys)} {kind}: {', '.join(keys[:MAX_NAMED])}{rest}")
    if lines:
        raise ValueError(f"{path}: does not fit the network; " + "; ".join(lines))


def save_checkpoint(
    module: nn.Module, path: Path, *, key_of: Mapping[str, str] | None = None
) -> None:
    """Write the module's state, keys sorted, so that equal weights give equal bytes.

    `key_of` maps the module's names to the checkpoint's where these differ.
    """
    state = module.state_dict()
    if key_of is not None:
        state = {key_of[name]: tensor for name, tensor in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors({key: state[key].detach().contiguous() for key in sorted(state)}, path)


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a safetensors file that everybody may read, as any other file that is served."""
    save_file(tensors, path)
    path.chmod(0o644)


def build_seeded(build: Callable[[], Module], seed: int) -> Module:
    """A fresh network whose random weights depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build()
        if isinstance(reset := getattr(module, "reset_parameters", None), Callable):
            reset()
    return module.eval().requires_grad_(False)
