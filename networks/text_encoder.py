"""The umT5 encoder of `transformers`, loaded from Wan's names (docs/method.md section 6).

B batch   L tokens, padding included
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, UMT5Config, UMT5EncoderModel
from transformers.masking_utils import eager_mask

from networks.configs import TextEncoderConfig

_LAYER = {
    "attn.q": "layer.0.SelfAttention.q",
    "attn.k": "layer.0.SelfAttention.k",
    "attn.v": "layer.0.SelfAttention.v",
    "attn.o": "layer.0.SelfAttention.o",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm1": "layer.0.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
    "norm2": "layer.1.layer_norm",
}
"""Wan's name of a layer's weight -> transformers'."""
_WHOLE = {"token_embedding.weight": "shared", "norm.weight": "encoder.final_layer_norm"}
_FUSED = "one_attention_op"


def module_key(key: str) -> str:
    """The module's name for one of Wan's checkpoint keys; an unknown key is returned as it is."""
    if key in _WHOLE:
        return f"model.{_WHOLE[key]}.weight"
    blocks, layer, *rest = key.removesuffix(".weight").split(".")
    name = _LAYER.get(".".join(rest))
    known = blocks == "blocks" and name is not None
    return f"model.encoder.block.{layer}.{name}.weight" if known else key


def checkpoint_keys(config: TextEncoderConfig) -> list[str]:
    """Wan's keys of all weights."""
    layers = [f"blocks.{i}.{name}.weight" for i in range(config.num_layers) for name in _LAYER]
    return ["token_embedding.weight", *layers, "norm.weight"]


class TextEncoder(nn.Module):
    """Token ids to rows of text conditioning."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        settings = UMT5Config(
            vocab_size=config.vocab,
            d_model=config.dim,
            d_kv=config.dim_attn // config.num_heads,
            d_ff=config.dim_ffn,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            relative_attention_num_buckets=config.num_buckets,
            relative_attention_max_distance=128,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            layer_norm_epsilon=1e-6,
            attn_implementation=_FUSED,
        )
        self.model = UMT5EncoderModel(settings)
        # The table of tokens stands in two places; the checkpoint has it once.
        del self.model.encoder.embed_tokens

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> Tensor:
        """Rows [B, L, dim] of `token_ids` and `token_mask` [B, L] int64; those of padding, where
        the mask is 0, are zero."""
        rows = self.model.encoder(
            inputs_embeds=self.model.shared(token_ids), attention_mask=token_mask
        )
        return rows.last_hidden_state * token_mask.unsqueeze(-1)


def _attention(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    position_bias: Tensor,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention as one operator, whose output can be reshaped when it is exported."""
    bias = position_bias if attention_mask is None else position_bias + attention_mask
    output = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scaling)
    return output.transpose(1, 2).contiguous(), None


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """Additive; always there, so that a graph traced without padding knows padding."""
    return eager_mask(*args, **{**kwargs, "allow_is_bidirectional_skip": False})


AttentionInterface.register(_FUSED, _attention)
AttentionMaskInterface.register(_FUSED, _mask)
