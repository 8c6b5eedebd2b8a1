"""Attention of all blocks of a clip at once, each to what it sees.

B clips   n blocks of a clip   N heads   L tokens of a clip   d head size
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.avatar.sink_cache import SinkCache
from pipeline.config.avatar import PipelineConfig
from train.network.batched_dit import KeysValues, frame_rotation, rotate, sink_rotation
from train.network.quick_layers import attend


class WindowAttention:
    """Every block of a clip attends to the sink, the blocks of its window before it, and itself."""

    def __init__(
        self,
        config: PipelineConfig,
        sink: list[KeysValues] | None,
        starts: Sequence[int],
        num_blocks: int,
        sink_distance: int,
        device: torch.device,
    ) -> None:
        self.window, self.num_blocks, self.sink = config.window_blocks, num_blocks, sink
        frames, plan = config.frames_per_block, SinkCache(config).plan
        spans = np.add.outer(np.multiply(starts, frames), np.arange(num_blocks * frames))
        self.turns = frame_rotation(config, spans, device)[:, None]
        places = [
            [plan(s + j, sink_distance).reference_position for s in starts]
            for j in range(num_blocks)
        ]
        self.sink_turns = sink_rotation(config, places, device)[:, :, None]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q, k, v [B, N, L, d] before RoPE -> [B, N, L, d]."""
        queries = rotate(q, self.turns).chunk(self.num_blocks, 2)
        keys, values = (x.chunk(self.num_blocks, 2) for x in (rotate(k, self.turns), v))
        history = list(zip(self.past(keys), self.past(values), strict=True))
        attended = []
        for j, query in enumerate(queries):
            seen = [*history[max(0, j - self.window + 1) : j], (keys[j], values[j])]
            seen_k, seen_v = zip(*self.with_sink(layer, j, seen), strict=True)
            attended.append(attend(query, torch.cat(seen_k, 2), torch.cat(seen_v, 2)))
        return torch.cat(attended, 2)

    def past(self, blocks: Sequence[Tensor]) -> list[Tensor]:
        """K or V of blocks as later ones see them; the last one is nobody's history."""
        return list(blocks[:-1])

    def with_sink(self, layer: int, block: int, seen: list[KeysValues]) -> list[KeysValues]:
        """What a block sees, and the sink in its place."""
        return seen if self.sink is None else [self.turned(self.sink, layer, block), *seen]

    def turned(self, sink: list[KeysValues], layer: int, block: int) -> KeysValues:
        """The sink's K, after RoPE, and V, as a block sees it."""
        k, v = sink[layer]
        return rotate(k, self.sink_turns[block]), v
