"""A prompt's keys and values in every layer: the same in both transformers, once per prompt."""

from __future__ import annotations

from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]
"""k and v of a layer, each [B, N, text_len, d]."""


def text_keys_values(network: nn.Module, text: Tensor) -> list[KeysValues]:
    """text [B, text_len, text_dim], zero rows after the prompt -> K and V of every layer.

    `network` has a `text_embedding`, and `blocks` with a `cross_attn` each. The zero rows are
    attended to: their keys come from the biases.
    """
    rows = network.text_embedding(text.flatten(0, 1))
    return [block.cross_attn.keys_values(rows, text.shape[1]) for block in network.blocks]


class TextKeysValues(nn.Module):
    """K and V of a prompt for every layer: `dit_text.onnx`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, text: Tensor) -> tuple[Tensor, ...]:
        """text as in `text_keys_values` -> text_k_i, text_v_i of every layer i in turn."""
        return tuple(t for pair in text_keys_values(self.network, text) for t in pair)
