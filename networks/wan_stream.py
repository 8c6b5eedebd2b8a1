"""The uses of the causal Wan transformer that stream, with the names of the exported graphs.

B batch   C latent channels   F latent frames of the pass, f of a block   S tokens of a frame
T = f * S tokens of a block   N heads   d head size   D width   H cached blocks that are seen

A cache is [B, N, slots * T, d], K before RoPE. `WanWindow` reads slots; `WanClean` writes its own
K/V, in place where the engine can, and reads what it wrote. Which slots and at which positions is
planned by integers (`pipeline.rolling.plan`). In eager PyTorch B may be any, for streams that share
a plan; graphs are exported with B = 1.
"""

import torch
from torch import Tensor, nn

from networks.block import Sight
from networks.causal_wan import CausalWan
from networks.layers import write_cache
from networks.transformer import KeysValues, text_of


def slots_of(cache: Tensor, slots: Tensor, tokens_per_block: int) -> Tensor:
    """cache [B, N, slots * T, d] -> the blocks in `slots` [H], [B, N, H * T, d]."""
    batch, heads, _, size = cache.shape
    blocks = cache.reshape(batch, heads, -1, tokens_per_block, size)
    return blocks.index_select(2, slots).flatten(2, 3)


class WanPass(nn.Module):
    """What a denoising and a storing pass share."""

    def __init__(self, wan: CausalWan, frames_per_block: int) -> None:
        super().__init__()
        self.wan = wan
        self.frames_per_block = frames_per_block


class WanWindow(WanPass):
    """Denoise a window of blocks that all see each other: `dit_window.onnx`. The cache is read."""

    def forward(
        self,
        latent: Tensor,
        modulation: Tensor,
        head_modulation: Tensor,
        cos: Tensor,
        sin: Tensor,
        cos_history: Tensor,
        sin_history: Tensor,
        slots: Tensor,
        **layers: Tensor,
    ) -> Tensor:
        """latent [B, C, F, h, w], modulation [B * F, 6, D], head_modulation [B * F, D]; tables of
        the window [F, S, d/2] and of the history [H, T, d/2], which stands in `slots` [H] int64;
        cache_k_i, cache_v_i, text_k_i, text_v_i. Returns the velocity, as latent.
        """
        block = self.frames_per_block * cos.shape[1]

        def recall(layer: int, k: Tensor, v: Tensor) -> KeysValues:
            seen_k, seen_v = (slots_of(layers[f"cache_{kv}_{layer}"], slots, block) for kv in "kv")
            return torch.cat([seen_k, k], 2), torch.cat([seen_v, v], 2)

        sight = sight_of(cos, sin, cos_history, sin_history)
        texts = [text_of(layers, i) for i in range(self.wan.config.num_layers)]
        return self.wan.velocity(latent, modulation, head_modulation, sight, texts, recall)


class WanClean(WanPass):
    """Store the K/V of finished blocks: `dit_clean.onnx`, and `dit_recache.onnx` with `stored`."""

    def forward(
        self,
        latent: Tensor,
        modulation: Tensor,
        cos: Tensor,
        sin: Tensor,
        cos_history: Tensor,
        sin_history: Tensor,
        slots: Tensor,
        write_index: Tensor,
        stored: Tensor | None = None,
        **layers: Tensor,
    ) -> tuple[Tensor, ...]:
        """As `WanWindow.forward`, without the head and the last layer's text; write_index [1] int64
        is the cache token from which the K/V go. `stored` [blocks] int64 names those of the pass's
        blocks that are stored and seen, in order, None all; the others are queries only. `slots`
        must not be among the written ones. Returns present_k_i, present_v_i of every layer i in
        turn."""
        block = self.frames_per_block * cos.shape[1]
        presents: list[Tensor] = []

        def recall(layer: int, *own: Tensor) -> KeysValues:
            kept = []
            for kv, rows in zip("kv", own, strict=True):
                if stored is not None:
                    rows = slots_of(rows, stored, block)
                present = write_cache(layers[f"cache_{kv}_{layer}"], rows, write_index)
                presents.append(present)
                kept.append(torch.cat([slots_of(present, slots, block), rows], 2))
            return kept[0], kept[1]

        sight = sight_of(cos, sin, cos_history, sin_history, stored, self.frames_per_block)
        texts = [text_of(layers, i) for i in range(self.wan.config.num_layers - 1)]
        self.wan.store(latent, modulation, sight, texts, recall)
        return tuple(presents)


def sight_of(
    cos: Tensor,
    sin: Tensor,
    cos_history: Tensor,
    sin_history: Tensor,
    stored: Tensor | None = None,
    frames_per_block: int = 1,
) -> Sight:
    """Keys are the history and then the pass's own tokens, or those of its `stored` blocks."""

    def keys(own: Tensor, history: Tensor) -> Tensor:
        if stored is not None:
            own = own.unflatten(0, (-1, frames_per_block)).index_select(0, stored).flatten(0, 1)
        return torch.cat([history.flatten(0, 1), own.flatten(0, 1)])[None]

    return Sight(
        cos_q=cos.flatten(0, 1)[None],
        sin_q=sin.flatten(0, 1)[None],
        cos_k=keys(cos, cos_history),
        sin_k=keys(sin, sin_history),
    )
