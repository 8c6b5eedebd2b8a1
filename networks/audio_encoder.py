"""wav2vec2 of `transformers` with all its hidden states, and the frames picked out of them. A batch
of one: S samples at 16 kHz, T50 hidden frames (50 per second), L layers, C width."""

import dataclasses

import torch
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from networks.configs import AudioEncoderConfig

UNUSED = ("lm_head.", "wav2vec2.masked_spec_embed", "quantizer.", "project_q.", "project_hid.")
"""Checkpoint keys of the training heads, dropped when loading."""


class AudioEncoder(nn.Module):
    """Samples [1, S], normalised to zero mean and unit variance, to hidden states."""

    def __init__(self, config: AudioEncoderConfig) -> None:
        super().__init__()
        # No masking: that drops the mask's embedding, a parameter of the training task.
        settings = dataclasses.asdict(config) | {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
        self.wav2vec2 = Wav2Vec2Model(Wav2Vec2Config(**settings, attn_implementation="sdpa"))

    def forward(self, samples: Tensor) -> Tensor:
        """[L + 1, T50, C]: what enters layer 1, then what leaves each layer, the last one through
        the final layer norm (docs/method.md section 4)."""
        model, encoder = self.wav2vec2, self.wav2vec2.encoder
        x, _ = model.feature_projection(model.feature_extractor(samples).transpose(1, 2))
        x = x + encoder.pos_conv_embed(x)
        states = [x]
        for layer in encoder.layers:
            x = layer(x)
            states.append(x)
        states[-1] = encoder.layer_norm(x)
        return torch.cat(states)


class AudioFeatures(nn.Module):
    """Hidden states at given places: what the graph `audio_encoder` computes."""

    def __init__(self, encoder: AudioEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, samples: Tensor, frame_index: Tensor, frame_weight: Tensor) -> Tensor:
        """Features [1, L + 1, C, T]: hidden[i] (1 - w) + hidden[i + 1] w for each (i, w) of
        `frame_index` [T] int64 in 0..T50 - 1 and `frame_weight` [T] in [0, 1]; the last hidden
        frame is its own neighbour."""
        hidden = self.encoder(samples)
        after = torch.clamp(frame_index + 1, max=hidden.shape[1] - 1)
        weight = frame_weight.unsqueeze(-1)
        here, there = hidden.index_select(1, frame_index), hidden.index_select(1, after)
        return (here * (1 - weight) + there * weight).transpose(1, 2).unsqueeze(0)


def module_key(key: str) -> str | None:
    """The module's name for a checkpoint key, None for the training heads. Old files name the two
    parts of the weight norm `weight_g` and `weight_v`."""
    if key.startswith(UNUSED):
        return None
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        if key.endswith(f".conv.{old}"):
            return key.removesuffix(old) + f"parametrizations.weight.{new}"
    return key
