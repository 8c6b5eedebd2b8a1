"""Audio features to tokens, which are injected into the picture's (docs/method.md section 4).

A actors   C audio width   T video frames of a block   F latent frames of a block   S tokens of a
latent frame   D width
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.configs import DiTConfig
from networks.layers import Projections, attend

NORM_EPS = 1e-6
INJECTOR_NORM_EPS = 1e-5


class CausalConv(nn.Module):
    """Convolution over time, kernel 3. `history` copies of the first frame are put in front; two
    make it causal and give as many frames as came in."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, history: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, 3, stride)
        self.history = history

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] -> [B, C', T']."""
        return self.conv(F.pad(x, (self.history, 0), mode="replicate"))


class TokenEncoder(nn.Module):
    """Mixed features [A, C, T] -> local tokens [A, F, tokens + 1, D], the last one learned padding,
    and global token [A, F, D]. All pass the same second and third convolution, as one batch."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        dim, quarter = config.dim, config.dim // 4
        self.num_tokens = config.num_audio_tokens
        # One frame more in front than a causal convolution needs: the first latent step of the
        # result is dropped, which equals the release's 73 copies and 19 dropped steps.
        self.conv1_local = CausalConv(config.audio_dim, quarter * self.num_tokens, history=3)
        self.conv1_global = CausalConv(config.audio_dim, quarter, history=3)
        self.conv2 = CausalConv(quarter, dim // 2, stride=2)
        self.conv3 = CausalConv(dim // 2, dim, stride=2)
        self.final_linear = nn.Linear(dim, dim)
        self.padding_tokens = nn.Parameter(torch.zeros(1, 1, 1, dim))

    def forward(self, mixed: Tensor) -> tuple[Tensor, Tensor]:
        num_actors, _, num_frames = mixed.shape
        heads = torch.cat([self.conv1_local(mixed), self.conv1_global(mixed)], dim=1)
        x = heads.reshape(num_actors * (self.num_tokens + 1), -1, num_frames + 1)
        x = self.conv2(_activate(x))
        x = _activate(self.conv3(_activate(x)))[:, :, 1:]
        x = x.reshape(num_actors, self.num_tokens + 1, x.shape[1], -1).permute(0, 3, 1, 2)
        padding = self.padding_tokens.expand(num_actors, x.shape[1], 1, -1)
        local = torch.cat([x[:, :, : self.num_tokens], padding], dim=2)
        return local, self.final_linear(x[:, :, self.num_tokens])


def _activate(x: Tensor) -> Tensor:
    """SiLU(LayerNorm over the channels) of [B, C, T]."""
    return F.silu(F.layer_norm(x.transpose(1, 2), (x.shape[1],), eps=NORM_EPS)).transpose(1, 2)


class AudioTokens(nn.Module):
    """`casual_audio_encoder` of the checkpoint: mixes the wav2vec2 layers, then makes tokens."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(1, config.audio_layers, 1, 1))
        self.encoder = TokenEncoder(config)

    def forward(self, audio_features: Tensor) -> tuple[Tensor, Tensor]:
        """[A, layers, C, T] -> local [A, F, tokens + 1, D] and global [A, F, D] tokens."""
        weights = F.silu(self.weights)
        mixed = (audio_features * weights).sum(1) / weights.sum(1)
        return self.encoder(mixed)


class AdaptiveNorm(nn.Module):
    """shift and scale of an injector's norm from the global audio token."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 2 * dim)

    def forward(self, token: Tensor) -> tuple[Tensor, Tensor]:
        """[A, F, D] -> shift and scale, each [A, F, 1, D]."""
        dim = token.shape[-1]
        both = self.linear(F.silu(token))[:, :, None]
        return both[..., :dim], both[..., dim:]


class AudioInjector(nn.Module):
    """Cross-attention from the tokens of a latent frame to the audio tokens of that frame."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        count, dim = len(config.inject_layers), config.dim
        self.injector = nn.ModuleList(
            Projections(dim, config.num_heads, config.eps) for _ in range(count)
        )
        self.injector_adain_layers = nn.ModuleList(AdaptiveNorm(dim) for _ in range(count))

    def forward(
        self, index: int, x: Tensor, audio: tuple[Tensor, Tensor], actor_mask: Tensor
    ) -> Tensor:
        """x [F * S, D] plus what injector `index` adds; actor_mask [A, F * S, 1], 1 = speaks."""
        local, global_token = audio
        num_frames, num_tokens, dim = local.shape[1:]
        frame_tokens = x.shape[0] // num_frames
        projections = self.injector[index]
        shift, scale = self.injector_adain_layers[index](global_token)
        normed = F.layer_norm(x, (dim,), eps=INJECTOR_NORM_EPS)
        u = normed.reshape(num_frames, frame_tokens, dim) * (1 + scale) + shift
        q = projections.queries(u.reshape(-1, dim), frame_tokens)
        k, v = projections.keys_values(local.reshape(-1, dim), num_tokens)
        spoken = projections.project(attend(q, k, v)).reshape(-1, x.shape[0], dim)
        return x + (spoken * actor_mask).sum(0)
