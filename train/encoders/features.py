"""Audio features of many windows at once, as a live stream cuts and normalises them.

The served graph takes one window. Here a batch goes through the same weights, with time in front of
the channels throughout: on a CPU that takes half the time of `AudioEncoder.forward`.

B windows of equal length   S samples   T50 hidden frames   L layers   C width   T video frames
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.audio_encoder import AudioEncoder
from pipeline.avatar.audio import AudioWindow, StreamingAudio
from pipeline.config.avatar import PipelineConfig

BATCH = 8  # windows at a time; more of them no longer fit into the processor's cache


def stream_windows(samples: np.ndarray, blocks: range, config: PipelineConfig) -> list[AudioWindow]:
    """What the encoder gets for successive blocks of a stream that begins with `samples` [n].
    ValueError if a block or its lookahead reaches beyond the samples."""
    audio = StreamingAudio(config)
    audio.append(samples)
    if blocks and not 0 <= blocks[0] <= blocks[-1] < audio.num_blocks:
        raise ValueError(f"audio has {audio.num_blocks} blocks with lookahead, wanted {blocks}")
    audio.next_block = blocks.start
    windows = [audio.next_window() for _ in blocks]
    return [window for window in windows if window is not None]


def hidden_states(encoder: AudioEncoder, samples: Tensor) -> Tensor:
    """[B, S] -> [B, L + 1, T50, C], what `AudioEncoder.forward` gives for each window alone."""
    model, layers = encoder.wav2vec2, encoder.wav2vec2.encoder
    x = samples.unsqueeze(2)
    for layer in model.feature_extractor.conv_layers:
        x = layer.activation(layer.layer_norm(_convolved(x, layer.conv)))
    x, _ = model.feature_projection(x)
    x = x + layers.pos_conv_embed(x)
    states = [x]
    for layer in layers.layers:
        x = layer(x)
        states.append(x)
    states[-1] = layers.layer_norm(x)
    return torch.stack(states, 1)


def _convolved(x: Tensor, conv: nn.Conv1d) -> Tensor:
    """[B, S, C] -> [B, S', C']: the kernel in pieces as long as its stride, each a product."""
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    count, pieces = (x.shape[1] - kernel) // stride + 1, -(-kernel // stride)
    wanted = (count + pieces - 1) * stride
    x = F.pad(x, (0, 0, 0, max(0, wanted - x.shape[1])))[:, :wanted]
    x = x.reshape(x.shape[0], count + pieces - 1, -1)
    weights = conv.weight.transpose(1, 2).flatten(1).split(x.shape[2], dim=1)
    return conv.bias + sum(
        F.linear(x[:, i : i + count, : weight.shape[1]], weight) for i, weight in enumerate(weights)
    )


def features_at(hidden: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """[B, L + 1, C, T] from [B, L + 1, T50, C] at places [B, T], as `AudioFeatures` does."""
    here = torch.arange(len(hidden)).unsqueeze(1)
    after = (index + 1).clamp(max=hidden.shape[2] - 1)
    rows = hidden.transpose(1, 2)  # [B, T50, L + 1, C]
    weight = weight[..., None, None]
    return (rows[here, index] * (1 - weight) + rows[here, after] * weight).permute(0, 2, 3, 1)


@torch.no_grad()
def block_features(encoder: AudioEncoder, windows: Sequence[AudioWindow]) -> Tensor:
    """[blocks, L + 1, C, frames of a block]; windows of equal length share batches."""
    features: dict[int, Tensor] = {}
    lengths = np.array([w.samples.shape[1] for w in windows])
    for length in np.unique(lengths):
        same = np.flatnonzero(lengths == length)
        for places in np.split(same, range(BATCH, len(same), BATCH)):
            rows = [(w.samples[0], w.frame_index, w.frame_weight)
                    for w in (windows[i] for i in places)]  # fmt: skip
            columns = zip(*rows, strict=True)
            samples, index, weight = (torch.from_numpy(np.stack(column)) for column in columns)
            made = features_at(hidden_states(encoder, samples), index, weight)
            features |= dict(zip(places, made, strict=True))
    return torch.stack([features[i] for i in range(len(windows))])
