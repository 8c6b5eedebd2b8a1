"""The presets: which networks belong together, and with which pipeline. A `Preset` checks that
their numbers agree with those of `pipeline.config.avatar.PipelineConfig`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from networks.configs import (
    AudioEncoderConfig,
    CompactVAEConfig,
    DiTConfig,
    TextEncoderConfig,
    VAEConfig,
    WanConfig,
)
from pipeline.config.avatar import PipelineConfig

SHARED = ("num_layers", "num_heads", "head_dim", "patch_size", "text_len", "text_dim")
"""Numbers that a transformer and the configuration of its streams both state."""
_AVATAR = (*SHARED, "frames_per_block", "num_audio_tokens")


def stated(network: WanConfig, names: Iterable[str] = SHARED) -> dict[str, Any]:
    """What a transformer already says of the configuration of its streams."""
    numbers = {name: getattr(network, name) for name in names}
    return {"latent_channels": network.channels, **numbers}


def stated_twice(
    network: WanConfig, config: object, names: Iterable[str] = SHARED
) -> dict[str, tuple[Any, Any]]:
    """The same numbers in both places, for `check_equal`."""
    return {name: (getattr(network, name), getattr(config, name)) for name in names}


def check_equal(preset: str, pairs: Mapping[str, tuple[Any, Any]]) -> None:
    """ValueError names the first number that two parts of a preset state differently."""
    for what, (one, other) in pairs.items():
        if one != other:
            raise ValueError(f"preset {preset}: {what} differ: {one!r} and {other!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """All networks of one deployment and its pipeline, checked against each other. Only `text.dim`
    may differ from `dit.text_dim`, in fixture sets from separate runs; a test holds `PRESETS` to
    it."""

    name: str
    dit: DiTConfig
    vae: VAEConfig | CompactVAEConfig
    audio: AudioEncoderConfig
    text: TextEncoderConfig
    pipeline: PipelineConfig

    def __post_init__(self) -> None:
        dit, pipeline = self.dit, self.pipeline
        pairs = {
            "preset name": (self.name, pipeline.preset),
            **stated_twice(dit, pipeline, _AVATAR),
            "audio_layers of DiT and pipeline": (dit.audio_layers, pipeline.audio_layers),
            "audio_layers of DiT and encoder": (dit.audio_layers, self.audio.num_hidden_layers + 1),
            "audio_dim of DiT and pipeline": (dit.audio_dim, pipeline.audio_dim),
            "audio_dim of DiT and encoder": (dit.audio_dim, self.audio.hidden_size),
            "latent channels of DiT and pipeline": (dit.channels, pipeline.latent_channels),
            "latent channels of DiT and VAE": (dit.channels, self.vae.z_dim),
        }
        check_equal(self.name, pairs)


def preset_of(
    name: str,
    *,
    dit: DiTConfig,
    vae: VAEConfig | CompactVAEConfig,
    audio: AudioEncoderConfig,
    text: TextEncoderConfig,
    **pipeline: Any,
) -> Preset:
    """A preset whose PipelineConfig takes from the networks what they already say; `pipeline` holds
    its remaining fields (height and width at least)."""
    of_dit = stated(dit, (*_AVATAR, "audio_layers", "audio_dim"))
    config = PipelineConfig(preset=name, **of_dit, **pipeline)
    return Preset(name=name, dit=dit, vae=vae, audio=audio, text=text, pipeline=config)


DEMO_SIZES: Mapping[str, int] = {
    "dim": 128,
    "ffn_dim": 512,
    "freq_dim": 64,
    "num_heads": 2,
    "num_layers": 6,
    "patch_size": 1,
    "text_dim": 64,
    "text_len": 160,
}
"""Of the transformers of both demos."""

_DEMO = preset_of(
    "demo",
    dit=DiTConfig(**DEMO_SIZES, audio_dim=64, audio_layers=5, inject_layers=(0, 2, 4)),
    vae=CompactVAEConfig(),
    audio=AudioEncoderConfig(
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=128,
        conv_dim=(32,) * 7,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=4,
    ),
    text=TextEncoderConfig(vocab=259, dim=64, dim_attn=64, dim_ffn=128, num_heads=2, num_layers=2),
    height=96,
    width=96,
    # benchmarks/bench_audio_context: longer windows cost more and change nothing.
    audio_context_frames=50,
    # Lips begin to move before the sound: 80 ms are what the audio encoder needs to see it.
    audio_lookahead_frames=2,
)

_14B = preset_of(
    "14b",
    dit=DiTConfig(
        dim=5120,
        ffn_dim=13824,
        freq_dim=256,
        num_heads=40,
        num_layers=40,
        text_dim=4096,
        text_len=512,
        audio_dim=1024,
        audio_layers=25,
        inject_layers=(0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39),
    ),
    vae=VAEConfig(dim=96),
    audio=AudioEncoderConfig(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        conv_dim=(512,) * 7,
    ),
    text=TextEncoderConfig(
        vocab=256384, dim=4096, dim_attn=4096, dim_ffn=10240, num_heads=64, num_layers=24
    ),
    height=704,
    width=384,
    tokenizer="tokenizer.json",
)

PRESETS: dict[str, Preset] = {preset.name: preset for preset in (_DEMO, _14B)}
