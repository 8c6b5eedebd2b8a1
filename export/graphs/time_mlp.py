"""The DiT's time MLP out of a checkpoint of any size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.checkpoint.files import Weights, read
from networks.dit import DiT
from networks.presets import Preset


def load_time_mlp(preset: Preset, weights: Weights) -> DiT:
    """A DiT on the meta device but for its time MLP, which computes in float32."""
    with torch.device("meta"):
        dit = DiT(preset.dit)
    keys = [key for key in dit.state_dict() if key.startswith("time_embedding.")]
    state = {key: read(weights, key).float() for key in keys}
    dit.load_state_dict(state, strict=False, assign=True)
    dit.time_projection[1] = _LinearFromFile(weights, "time_projection.1")
    return dit


class _LinearFromFile(nn.Module):
    """A linear layer whose weight is read while it is used, some rows at a time."""

    def __init__(self, weights: Weights, name: str) -> None:
        super().__init__()
        self._weights, self._name = weights, name

    def forward(self, x: Tensor) -> Tensor:
        bias, start, parts = read(self._weights, f"{self._name}.bias").float(), 0, []
        for rows in self._weights.chunks(f"{self._name}.weight"):
            parts.append(F.linear(x, rows.float(), bias[start : start + len(rows)]))
            start += len(rows)
        return torch.cat(parts, dim=-1)
