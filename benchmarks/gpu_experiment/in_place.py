"""The networks as an engine runs them: caches written in place, and no copies from the host in
between, which could not be captured. The numbers are the same.
"""

import torch
from torch import Tensor

import networks.block
import networks.compact_vae
import networks.vae_layers


def write_in_place(cache: Tensor, update: Tensor, write_index: Tensor) -> Tensor:
    """`networks.layers.write_cache` on the cache itself, as a TensorScatter that shares memory."""
    rows = write_index + torch.arange(update.shape[2], device=cache.device)
    return cache.index_copy_(2, rows, update)


def windows_of_one(x: Tensor, batch: int, kernel: int, stride: int) -> Tensor:
    """`networks.vae_layers.windows` of one clip, whose rows are no list of the host's."""
    if batch != 1:
        raise ValueError(f"{batch} clips side by side, wanted 1")
    rows = x.unfold(0, kernel, stride).movedim(-1, 1)  # [T, kernel, C, H, W]
    return rows.flatten(1, 2)


def run_in_place() -> None:
    """From now on, in this process."""
    for module, name, ours in (
        (networks.block, "write_cache", write_in_place),
        (networks.vae_layers, "windows", windows_of_one),
        (networks.compact_vae, "windows", windows_of_one),
    ):
        assert hasattr(module, name), f"{module.__name__} has no {name} any more"
        setattr(module, name, ours)
