"""What both transformers share: text, timesteps, a fresh one's weights, a prompt's K and V."""

from collections.abc import Mapping

from torch import Tensor, nn

from networks.configs import WanConfig
from networks.layers import sinusoids

KeysValues = tuple[Tensor, Tensor]
"""K (before RoPE) and V of one layer, each [B, N, tokens, d]."""


class Transformer(nn.Module):
    """Base of `DiT` and `CausalWan`, which have `blocks` and a `head`."""

    config: WanConfig
    blocks: nn.ModuleList
    head: nn.Module

    def add_conditioning(self, config: WanConfig) -> None:
        """Add the embeddings of text and timesteps, where a subclass's checkpoint has them: the
        order of the parameters decides what a seed gives each of them."""
        dim = config.dim
        self.text_embedding = nn.Sequential(
            nn.Linear(config.text_dim, dim), nn.GELU("tanh"), nn.Linear(dim, dim)
        )
        self.time_embedding = nn.Sequential(
            nn.Linear(config.freq_dim, dim), nn.SiLU(), nn.Linear(dim, dim)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))

    def reset_parameters(self) -> None:
        """Scales of a fresh network beyond PyTorch's own: the velocity starts near zero, so latents
        stay near the noise for any number of blocks."""
        width = self.config.dim**-0.5
        for block in self.blocks:
            nn.init.normal_(block.modulation, std=width)
        nn.init.normal_(self.head.modulation, std=width)
        nn.init.normal_(self.head.head.weight, std=0.1 * width)
        nn.init.zeros_(self.head.head.bias)

    def modulations(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Timesteps [T] in 0..1000 -> modulation [T, 6, D] of blocks and [T, D] of the head."""
        waves = sinusoids(timesteps, self.config.freq_dim)
        head_modulation = self.time_embedding(waves.to(self.time_embedding[0].weight.dtype))
        blocks = self.time_projection(head_modulation)
        return blocks.reshape(-1, 6, self.config.dim), head_modulation

    def text_keys_values(self, text: Tensor) -> list[KeysValues]:
        """text [B, text_len, text_dim], zero rows after the prompt -> K and V of every layer. The
        zero rows are attended to: their keys come from the biases."""
        rows = self.text_embedding(text.flatten(0, 1))
        return [block.cross_attn.keys_values(rows, text.shape[1]) for block in self.blocks]


class TextKeysValues(nn.Module):
    """K and V of a prompt for every layer, once per prompt: `dit_text.onnx`."""

    def __init__(self, network: Transformer) -> None:
        super().__init__()
        self.network = network

    def forward(self, text: Tensor) -> tuple[Tensor, ...]:
        """text [B, text_len, text_dim] -> text_k_i, text_v_i of every layer i in turn."""
        return tuple(t for pair in self.network.text_keys_values(text) for t in pair)


def text_of(layers: Mapping[str, Tensor], i: int) -> KeysValues:
    """K and V of a prompt in layer `i` among a graph's inputs."""
    return layers[f"text_k_{i}"], layers[f"text_v_{i}"]
