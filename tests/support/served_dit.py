"""The DiT as it is served, block by block, for tests that compare another form of it."""

import torch
from torch import Tensor

from networks.checkpoint import build_seeded
from networks.configs import AudioEncoderConfig, DiTConfig, TextEncoderConfig, VAEConfig
from networks.dit import DiT, DiTEmbed, DiTSink, DiTStep
from networks.graph_inputs import step_outputs, text_outputs
from networks.presets import Preset, preset_of
from networks.transformer import TextKeysValues
from pipeline.avatar.rope_tables import RopeTables
from pipeline.avatar.sink_cache import SinkCache
from pipeline.avatar.stage import unpatchified
from pipeline.config.avatar import PipelineConfig
from tests.support.tiny_sizes import TINY
from train.network.batched_dit import Conditions


def tiny_preset(patch_size: int = 1, **pipeline: int) -> Preset:
    """A preset on which a block takes a few milliseconds."""
    return preset_of(
        "tiny",
        dit=DiTConfig(
            **TINY,
            ffn_dim=48,
            num_layers=3,
            patch_size=patch_size,
            audio_dim=6,
            audio_layers=3,
            inject_layers=(0, 2),
        ),
        vae=VAEConfig(dim=8, z_dim=4),
        audio=AudioEncoderConfig(
            hidden_size=6,
            num_hidden_layers=2,
            num_attention_heads=1,
            intermediate_size=6,
            conv_dim=(6,) * 7,
        ),
        text=TextEncoderConfig(vocab=9, dim=8, dim_attn=8, dim_ffn=8, num_heads=1, num_layers=1),
        height=64,
        width=64,
        **pipeline,
    )


def random_dit(config: DiTConfig) -> DiT:
    """A network whose every parameter has a say in the velocity, which is of size 1."""
    dit = build_seeded(lambda: DiT(config), 0)
    generator = torch.Generator().manual_seed(1)
    for p in dit.parameters():
        p += torch.randn(p.shape, generator=generator) * 0.15
    dit.head.head.weight *= 2
    return dit


def random_conditions(preset: Preset, batch: int, num_blocks: int) -> Conditions:
    """Normal numbers, another row of the batch being others."""
    c, generator = preset.pipeline, torch.Generator().manual_seed(2)

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator)

    picture = c.latent_height, c.latent_width
    return Conditions(
        reference=normal(c.latent_channels, 1, *picture),
        motion=normal(c.latent_channels, c.motion_frames, *picture),
        text=normal(c.text_len, c.text_dim),
        audio=normal(c.audio_layers, c.audio_dim, num_blocks * c.video_frames_per_block),
    )


class ServedStep:
    """One denoising step of one stream with its cache, on the modules of the graphs."""

    def __init__(self, dit: DiT, config: PipelineConfig, timestep: float) -> None:
        self.config, self.plan, self.tables = config, SinkCache(config).plan, RopeTables(config)
        self.text_module, self.audio_module = TextKeysValues(dit), dit.casual_audio_encoder
        self.sink, self.embed, self.trunk = DiTSink(dit), DiTEmbed(dit), DiTStep(dit)
        self.clean, self.modulations = (
            dict(zip(("modulation", "head_modulation"), dit.modulations(t), strict=True))
            for t in (torch.zeros(1), torch.tensor([timestep]))
        )
        shape = (1, config.num_heads, config.cache_len, config.head_dim)
        names = [f"cache_{kv}_{i}" for i in range(config.num_layers) for kv in "kv"]
        self.layers = {name: torch.zeros(shape) for name in names}

    def prefill(self, reference: Tensor, motion: Tensor, text: Tensor) -> None:
        config, (cos, sin) = self.config, map(torch.from_numpy, self.tables.sink_tables())
        self._keep(text_outputs(config), self.text_module(text))
        width = config.num_heads * config.head_dim
        values = self.trunk(
            tokens=self.sink(reference, motion),
            audio_local=torch.zeros(1, 1, config.num_audio_tokens + 1, width),
            audio_global=torch.zeros(1, 1, width),
            actor_mask=torch.zeros(1, 1, config.num_sink_tokens, 1),
            **self.clean,
            **{"cos_q": cos, "sin_q": sin, "cos_k": cos, "sin_k": sin},
            write_index=torch.zeros(1, dtype=torch.int64),
            **self.layers,
        )
        self._keep(step_outputs(config), values)

    def __call__(
        self,
        block: int,
        latent: Tensor,
        audio: Tensor,
        dsigma: float,
        sink_distance: int,
        skipped: int = 0,
    ) -> Tensor:
        """latent [1, C, F, h, w], audio [1, layers, width, 12] of the block -> the next latent.

        `skipped` blocks, which the cache has never held, come before block 0 in the stream.
        """
        plan, place = self.plan(block, sink_distance), self.plan(block + skipped, sink_distance)
        self.tables.write_block(plan.slot, place.first_frame)
        self.tables.place_reference(place.reference_position)
        cos_q, sin_q = map(torch.from_numpy, self.tables.block_tables(place.first_frame))
        local, overall = self.audio_module(audio)
        tokens = self.embed(latent, torch.zeros_like(latent))
        values = self.trunk(
            tokens=tokens,
            audio_local=local,
            audio_global=overall,
            actor_mask=torch.ones(1, *tokens.shape[:2], 1),
            **self.modulations,
            cos_q=cos_q,
            sin_q=sin_q,
            cos_k=torch.from_numpy(self.tables.cos_k[:, : plan.valid_tokens]),
            sin_k=torch.from_numpy(self.tables.sin_k[:, : plan.valid_tokens]),
            write_index=torch.tensor([plan.write_index]),
            **self.layers,
        )
        self._keep(step_outputs(self.config), values)
        velocity = torch.from_numpy(unpatchified(values[0].detach().numpy(), self.config))
        return latent + dsigma * velocity

    def _keep(self, names: list[str], values: tuple[Tensor, ...]) -> None:
        outputs = dict(zip(names, values, strict=True))
        outputs.pop("velocity", None)
        self.layers |= {name.replace("present", "cache"): v for name, v in outputs.items()}
