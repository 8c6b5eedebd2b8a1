"""The presets: which networks belong together, and with which pipeline.

The numbers of the schedule, the caches and the wire stand in
`pipeline.config.avatar.PipelineConfig`; a `Preset` checks that they agree with the networks' own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from networks.configs import (
    AudioEncoderConfig,
    CompactVAEConfig,
    DiTConfig,
    TextEncoderConfig,
    VAEConfig,
)
from pipeline.config.avatar import PipelineConfig

__all__ = [
    "PRESETS",
    "AudioEncoderConfig",
    "CompactVAEConfig",
    "DiTConfig",
    "Preset",
    "TextEncoderConfig",
    "VAEConfig",
    "golden_preset",
]


def check_equal(preset: str, pairs: Mapping[str, tuple[Any, Any]]) -> None:
    """ValueError names the first number that two parts of a preset state differently."""
    for what, (one, other) in pairs.items():
        if one != other:
            raise ValueError(f"preset {preset}: {what} differ: {one!r} and {other!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """All networks of one deployment and its pipeline, checked against each other.

    Only `text.dim` may differ from `dit.text_dim`: a fixture set may take its two parts from
    separate runs. A served preset needs them equal, which a test holds `PRESETS` to.
    """

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
            "num_layers": (dit.num_layers, pipeline.num_layers),
            "num_heads": (dit.num_heads, pipeline.num_heads),
            "head_dim": (dit.head_dim, pipeline.head_dim),
            "patch_size": (dit.patch_size, pipeline.patch_size),
            "frames_per_block": (dit.frames_per_block, pipeline.frames_per_block),
            "text_len": (dit.text_len, pipeline.text_len),
            "text_dim": (dit.text_dim, pipeline.text_dim),
            "num_audio_tokens": (dit.num_audio_tokens, pipeline.num_audio_tokens),
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
    """A preset whose PipelineConfig takes from the networks what they already say.

    `pipeline` holds the remaining PipelineConfig fields (height and width at least).
    """
    config = PipelineConfig(
        preset=name,
        latent_channels=dit.channels,
        patch_size=dit.patch_size,
        num_layers=dit.num_layers,
        num_heads=dit.num_heads,
        head_dim=dit.head_dim,
        frames_per_block=dit.frames_per_block,
        text_len=dit.text_len,
        text_dim=dit.text_dim,
        audio_layers=dit.audio_layers,
        audio_dim=dit.audio_dim,
        num_audio_tokens=dit.num_audio_tokens,
        **pipeline,
    )
    return Preset(name=name, dit=dit, vae=vae, audio=audio, text=text, pipeline=config)


_DEMO = preset_of(
    "demo",
    dit=DiTConfig(
        dim=128,
        ffn_dim=512,
        freq_dim=64,
        num_heads=2,
        num_layers=6,
        patch_size=1,
        text_dim=64,
        text_len=160,
        audio_dim=64,
        audio_layers=5,
        inject_layers=(0, 2, 4),
    ),
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


def _dit_config(values: dict[str, Any], frames_per_block: int) -> DiTConfig:
    temporal, rows, columns = values["patch_size"]
    wanted = {"enable_adain": True, "adain_mode": "attn_norm", "zero_timestep": True}
    for name, value in {**wanted, "enable_framepack": True, "enable_tsm": False}.items():
        if values[name] != value:
            raise ValueError(f"dit_config.{name} is {values[name]!r}, only {value!r} is built")
    if temporal != 1 or rows != columns:
        raise ValueError(f"dit_config.patch_size is {values['patch_size']}, wanted [1, p, p]")
    return DiTConfig(
        dim=values["dim"],
        ffn_dim=values["ffn_dim"],
        freq_dim=values["freq_dim"],
        num_heads=values["num_heads"],
        num_layers=values["num_layers"],
        channels=values["in_dim"],
        patch_size=rows,
        text_dim=values["text_dim"],
        text_len=values["text_len"],
        audio_dim=values["audio_dim"],
        audio_layers=values["num_wav2vec_layers"],
        num_audio_tokens=values["num_audio_token"],
        inject_layers=tuple(values["audio_inject_layers"]),
        frames_per_block=frames_per_block,
        eps=values["eps"],
    )


def golden_preset(manifest: dict[str, Any]) -> Preset:
    """The preset of a fixture set, every size taken from its manifest."""
    run, vae = manifest["run"], manifest["vae_config"]
    audio = {
        k: tuple(v) if isinstance(v, list) else v for k, v in manifest["wav2vec_config"].items()
    }
    text = manifest["t5_config"]
    dit = _dit_config(manifest["dit_config"], run["frames_per_block"])
    text_fields = ("vocab", "dim_attn", "dim_ffn", "num_heads", "num_layers", "num_buckets")
    return preset_of(
        "golden",
        dit=dit,
        vae=VAEConfig(
            dim=vae["dim"],
            z_dim=vae["z_dim"],
            dim_mult=tuple(vae["dim_mult"]),
            num_res_blocks=vae["num_res_blocks"],
            temporal_downsample=tuple(vae["temperal_downsample"]),
        ),
        audio=AudioEncoderConfig(**audio),
        text=TextEncoderConfig(dim=text["dim"], **{name: text[name] for name in text_fields}),
        height=run["height"],
        width=run["width"],
        window_blocks=run["num_blocks_per_clip"],
        motion_frames=run["lat_motion_frames"],
        fps=run["sample_fps"],
        recalibrate_block=run["num_blocks_per_clip"],
        round_rope_to_half=True,
    )
