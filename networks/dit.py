"""The block-causal S2V DiT of Live Avatar (arXiv 2512.04677; docs/method.md section 10).

C latent channels   h, w latent size   F latent frames of a block   S tokens of a latent frame
N heads   d head size   D width   A actors

The checkpoint's tensors live in `DiT`; `DiTEmbed`, `DiTSink` and `DiTStep` are its uses, with the
names and shapes of the exported graphs. The others are its `casual_audio_encoder` (`audio_tokens`)
and `networks.transformer` (`dit_text`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.audio_tokens import AudioInjector, AudioTokens
from networks.block import Block, CacheView, Head, Sight
from networks.configs import DiTConfig
from networks.layers import PatchEmbedding
from networks.transformer import Transformer, text_of

NOISY, REFERENCE, MOTION = 0, 1, 2
"""Rows of `trainable_cond_mask`, added to tokens of each kind."""

NUM_FRAMES_1X, NUM_FRAMES_2X, NUM_FRAMES_4X = 1, 2, 16
"""Latent frames of each bucket; the newest is kept whole, the oldest are packed tightest."""


class FramePacker(nn.Module):
    """FramePack (arXiv 2504.12626): motion latents to 1.5 frames worth of sink tokens.

    motion [1, C, T, h, w], oldest first -> [S + S/4 + 4 * S/16, D]: newest, 2x, 4x bucket
    (docs/method.md section 5).
    """

    def __init__(self, channels: int, dim: int, patch: int) -> None:
        super().__init__()
        self.proj = PatchEmbedding(channels, dim, (1, patch, patch))
        self.proj_2x = PatchEmbedding(channels, dim, (2, 2 * patch, 2 * patch))
        self.proj_4x = PatchEmbedding(channels, dim, (4, 4 * patch, 4 * patch))

    def forward(self, motion: Tensor) -> Tensor:
        total = NUM_FRAMES_1X + NUM_FRAMES_2X + NUM_FRAMES_4X
        motion = motion[:, :, -total:]
        missing = total - motion.shape[2]
        if missing:
            motion = F.pad(motion, (0, 0, 0, 0, missing, 0))
        newest = motion[:, :, NUM_FRAMES_4X + NUM_FRAMES_2X :]
        middle = motion[:, :, NUM_FRAMES_4X : NUM_FRAMES_4X + NUM_FRAMES_2X]
        oldest = motion[:, :, :NUM_FRAMES_4X]
        return torch.cat([self.proj(newest), self.proj_2x(middle), self.proj_4x(oldest)])


class DiT(Transformer):
    """All tensors of the released checkpoint, under its keys."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        dim, patch = config.dim, config.patch_size
        self.patch_embedding = PatchEmbedding(config.channels, dim, (1, patch, patch))
        self.cond_encoder = PatchEmbedding(config.channels, dim, (1, patch, patch))
        self.trainable_cond_mask = nn.Embedding(3, dim)
        self.frame_packer = FramePacker(config.channels, dim, patch)
        self.add_conditioning(config)
        self.casual_audio_encoder = AudioTokens(config)
        self.audio_injector = AudioInjector(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.head = Head(config)

    def reset_parameters(self) -> None:
        """As for every transformer; learned tokens and the residual branches of audio start small,
        too.
        """
        super().reset_parameters()
        width = self.config.dim**-0.5
        nn.init.normal_(self.trainable_cond_mask.weight, std=width)
        nn.init.normal_(self.casual_audio_encoder.encoder.padding_tokens, std=width)
        for injector in self.audio_injector.injector:
            nn.init.normal_(injector.o.weight, std=0.1 * width)


class DiTEmbed(nn.Module):
    """A block's tokens: `dit_embed.onnx`."""

    def __init__(self, dit: DiT) -> None:
        super().__init__()
        self.dit = dit

    def forward(self, latent: Tensor, pose: Tensor) -> Tensor:
        """latent and pose [1, C, F, h, w] -> tokens [F, S, D]."""
        dit = self.dit
        x = dit.patch_embedding(latent) + dit.cond_encoder(pose)
        x = x + dit.trainable_cond_mask.weight[NOISY]
        return x.reshape(latent.shape[2], -1, x.shape[-1])


class DiTSink(nn.Module):
    """The sink's tokens: `dit_sink.onnx`."""

    def __init__(self, dit: DiT) -> None:
        super().__init__()
        self.dit = dit

    def forward(self, reference: Tensor, motion: Tensor) -> Tensor:
        """reference [1, C, 1, h, w], motion [1, C, T, h, w] -> tokens [1, num_sink_tokens, D]."""
        dit, kinds = self.dit, self.dit.trainable_cond_mask.weight
        still = dit.patch_embedding(reference) + kinds[REFERENCE]
        return torch.cat([still, dit.frame_packer(motion) + kinds[MOTION]])[None]


class DiTStep(nn.Module):
    """The trunk, once for every pass: `dit_step.onnx`.

    A denoising step sends a block through it, a prefill the sink, which is one frame of
    num_sink_tokens and hears nobody (actor_mask 0). The tokens attend to the cache up to the last
    one that the tables have a row for.
    """

    def __init__(self, dit: DiT) -> None:
        super().__init__()
        self.dit = dit

    def forward(
        self,
        tokens: Tensor,
        audio_local: Tensor,
        audio_global: Tensor,
        actor_mask: Tensor,
        modulation: Tensor,
        head_modulation: Tensor,
        cos_q: Tensor,
        sin_q: Tensor,
        cos_k: Tensor,
        sin_k: Tensor,
        write_index: Tensor,
        **layers: Tensor,
    ) -> tuple[Tensor, ...]:
        """Names and shapes of inputs: `step_inputs`. Returns the velocity as patches, [frames,
        tokens of a frame, patch^2 * C] (row, column, channel), then present_k_i and present_v_i of
        every layer i in turn.
        """
        dit, x = self.dit, tokens.flatten(0, 1)
        audio, mask = (audio_local, audio_global), actor_mask.flatten(1, 2)
        sight = Sight(
            cos_q=cos_q.flatten(0, 1)[None],
            sin_q=sin_q.flatten(0, 1)[None],
            cos_k=cos_k,
            sin_k=sin_k,
        )
        presents: list[Tensor] = []
        for i, block in enumerate(dit.blocks):
            cache = CacheView(
                k=layers[f"cache_k_{i}"], v=layers[f"cache_v_{i}"], write_index=write_index
            )
            x, k, v = block(x, modulation, sight, cache, text_of(layers, i))
            presents += k, v
            if i in dit.config.inject_layers:
                x = dit.audio_injector(dit.config.inject_layers.index(i), x, audio, mask)
        return (dit.head(x, head_modulation).reshape(*tokens.shape[:2], -1), *presents)
