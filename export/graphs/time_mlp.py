"""A transformer's time MLP out of a checkpoint of any size, and its vectors at given timesteps."""

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.checkpoint.files import Weights, read
from export.checkpoint.fit import Rename, renamed
from networks.transformer import Transformer

TIME, PROJECTION = "time_embedding.", "time_projection.1"
"""The names of its layers in both systems' transformers."""


Network = TypeVar("Network", bound=Transformer)


def load_time_mlp(network: Network, weights: Weights, rename: Rename = lambda key: key) -> Network:
    """Give `network`, which is on the meta device, its time MLP; it computes in float32.

    ValueError names the tensors that `weights` lack.
    """
    keys = renamed(weights.infos, rename)
    small = [name for name in network.state_dict() if name.startswith(TIME)]
    wanted = [*small, f"{PROJECTION}.weight", f"{PROJECTION}.bias"]
    if missing := [name for name in wanted if name not in keys]:
        raise ValueError(f"{weights.files[0]} lacks {', '.join(missing)}")
    state = {name: read(weights, keys[name]).float() for name in small}
    network.load_state_dict(state, strict=False, assign=True)
    linear = _LinearFromFile(weights, *(keys[name] for name in wanted[-2:]))
    network.set_submodule(PROJECTION, linear)
    return network


def timestep_tables(network: Transformer, timesteps: Tensor) -> dict[str, Tensor]:
    """What a server needs of the time MLP: `timesteps` [T] with their `modulation` [T, 6, D] and
    `head_modulation` [T, D].
    """
    with torch.inference_mode():
        modulation, head_modulation = network.modulations(timesteps)
    return {
        "timesteps": timesteps,
        "modulation": modulation.contiguous(),
        "head_modulation": head_modulation.contiguous(),
    }


class _LinearFromFile(nn.Module):
    """A linear layer whose weight is read while it is used, some rows at a time."""

    def __init__(self, weights: Weights, weight: str, bias: str) -> None:
        super().__init__()
        self._weights, self._weight, self._bias = weights, weight, bias

    def forward(self, x: Tensor) -> Tensor:
        bias, start, parts = read(self._weights, self._bias).float(), 0, []
        for rows in self._weights.chunks(self._weight):
            parts.append(F.linear(x, rows.float(), bias[start : start + len(rows)]))
            start += len(rows)
        return torch.cat(parts, dim=-1)
