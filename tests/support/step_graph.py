"""A graph like the avatar's `dit_step`, of a single layer without weights, with two profiles."""

import torch
from torch import Tensor, nn

from export.graphs.graph import Graph
from networks.layers import attend, rotate, write_cache
from pipeline.config.avatar import PipelineConfig

PATCH = 4
"""Numbers of a token's velocity."""


class Step(nn.Module):
    """Write the cache, turn the keys that are seen, attend."""

    def __init__(self, config: PipelineConfig) -> None:
        super().__init__()
        self.num_heads, self.head_dim = config.num_heads, config.head_dim

    def forward(
        self,
        tokens: Tensor,
        cos_q: Tensor,
        sin_q: Tensor,
        cos_k: Tensor,
        sin_k: Tensor,
        write_index: Tensor,
        cache_k_0: Tensor,
        cache_v_0: Tensor,
    ) -> tuple[Tensor, ...]:
        frames, length, width = tokens.shape
        x = tokens.reshape(1, -1, self.num_heads, self.head_dim).transpose(1, 2)
        k, v = (write_cache(cache, x, write_index) for cache in (cache_k_0, cache_v_0))
        keys = cos_k.shape[1]
        seen = rotate(k[:, :, :keys], cos_k, sin_k)
        turned = rotate(x, *(t.reshape(1, -1, self.head_dim // 2) for t in (cos_q, sin_q)))
        y = attend(turned, seen, v[:, :, :keys]).transpose(1, 2)
        return y.reshape(frames, length, width)[..., :PATCH], k, v


def step_graph(config: PipelineConfig, dtype: torch.dtype) -> Graph:
    """`dit_step` with the axes `frames`, `frame_tokens` and `keys`; keys that follow are unseen."""
    frames, length, pairs = config.frames_per_block, config.tokens_per_frame, config.head_dim // 2
    width = config.num_heads * config.head_dim
    cache = (1, config.num_heads, config.cache_len, config.head_dim)
    sizes = {
        "tokens": (frames, length, width),
        **dict.fromkeys(("cos_q", "sin_q"), (frames, length, pairs)),
        **dict.fromkeys(("cos_k", "sin_k"), (1, config.num_sink_tokens, pairs)),
        "write_index": (1,),
        **dict.fromkeys(("cache_k_0", "cache_v_0"), cache),
    }
    queries = {0: "frames", 1: "frame_tokens"}
    return Graph(
        name="dit_step",
        module=Step(config),
        inputs={
            name: torch.zeros(shape, dtype=torch.int64 if name == "write_index" else dtype)
            for name, shape in sizes.items()
        },
        output_names=["velocity", "present_k_0", "present_v_0"],
        dynamic={
            **dict.fromkeys(("tokens", "cos_q", "sin_q"), queries),
            **{name: {1: "keys"} for name in ("cos_k", "sin_k")},
        },
        output_axes={"velocity": queries},
    )
