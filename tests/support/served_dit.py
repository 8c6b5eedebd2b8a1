"""The DiT as it is served, block by block, for tests that compare another form of it."""

import torch
from torch import Tensor

from networks.checkpoint import build_seeded
from networks.configs import AudioEncoderConfig, DiTConfig, TextEncoderConfig, VAEConfig
from networks.dit import DiT, DiTPrefill, DiTStep
from networks.graph_inputs import present_outputs, step_outputs, text_outputs
from networks.presets import Preset, preset_of
from networks.transformer import TextKeysValues
from pipeline.avatar.rope_tables import RopeTables
from pipeline.avatar.sink_cache import SinkCache
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
    """One denoising step of one stream with its cache, on `DiTPrefill` and `DiTStep`."""

    def __init__(self, dit: DiT, config: PipelineConfig, timestep: float) -> None:
        self.config, self.plan, self.tables = config, SinkCache(config).plan, RopeTables(config)
        self.text_module, self.audio_module = TextKeysValues(dit), dit.casual_audio_encoder
        self.prefill_module, self.step_module = DiTPrefill(dit), DiTStep(dit)
        self.clean, _ = dit.modulations(torch.zeros(1))
        self.modulation, self.head_modulation = dit.modulations(torch.tensor([timestep]))
        shape = (1, config.num_heads, config.cache_len, config.head_dim)
        names = [f"cache_{kv}_{i}" for i in range(config.num_layers) for kv in "kv"]
        self.layers = {name: torch.zeros(shape) for name in names}

    def prefill(self, reference: Tensor, motion: Tensor, text: Tensor) -> None:
        cos, sin = map(torch.from_numpy, self.tables.sink_tables())
        self._keep(text_outputs(self.config), self.text_module(text))
        index = torch.zeros(1, dtype=torch.int64)
        tables = self.clean, cos, sin, index
        values = self.prefill_module(reference, motion, *tables, **self.layers)
        self._keep(present_outputs(self.config), values)

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
        values = self.step_module(
            latent=latent,
            pose=torch.zeros_like(latent),
            audio_local=local,
            audio_global=overall,
            actor_mask=torch.ones(1, self.config.tokens_per_block, 1),
            modulation=self.modulation,
            head_modulation=self.head_modulation,
            dsigma=torch.tensor([dsigma]),
            cos_q=cos_q,
            sin_q=sin_q,
            cos_k=torch.from_numpy(self.tables.cos_k),
            sin_k=torch.from_numpy(self.tables.sin_k),
            write_index=torch.tensor([plan.write_index]),
            valid_tokens=torch.tensor([plan.valid_tokens]),
            **self.layers,
        )
        self._keep(step_outputs(self.config), values)
        return values[0]

    def _keep(self, names: list[str], values: tuple[Tensor, ...]) -> None:
        outputs = dict(zip(names, values, strict=True))
        outputs.pop("next_latent", None)
        self.layers |= {name.replace("present", "cache"): v for name, v in outputs.items()}
