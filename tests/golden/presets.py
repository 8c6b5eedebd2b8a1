"""The presets of the fixture sets, every size taken from what a set says of itself."""

from typing import Any

from networks.configs import (
    AudioEncoderConfig,
    DiTConfig,
    TextEncoderConfig,
    VAEConfig,
    WanConfig,
)
from networks.presets import Preset, preset_of
from networks.rolling_presets import RollingPreset, rolling_preset
from pipeline.config.rolling import RollingConfig


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


def wan_config(values: dict[str, Any]) -> WanConfig:
    """The transformer of a fixture set, from `config` in its config.json."""
    temporal, rows, columns = values.get("patch_size", (1, 2, 2))
    if temporal != 1 or rows != columns:
        raise ValueError(f"patch_size is {values['patch_size']}, wanted [1, p, p]")
    if values["rope_theta"] != 10_000:
        raise ValueError(f"rope_theta is {values['rope_theta']}, only 10000 is built")
    names = ("dim", "ffn_dim", "freq_dim", "num_heads", "num_layers", "text_dim", "text_len", "eps")
    return WanConfig(
        channels=values["in_dim"], patch_size=rows, **{name: values[name] for name in names}
    )


def golden_rolling_preset(values: dict[str, Any], **stream: Any) -> RollingPreset:
    """The preset of a fixture set, every size from `config` in its config.json.

    `stream` adds RollingConfig fields that the set's cases differ in (schedule, sink, recache, …).
    """
    if not values["warp_denoising_step"]:
        raise ValueError("warp_denoising_step is false, only shifted levels are built")
    fields: dict[str, Any] = {
        "frames_per_block": values["frames_per_block"],
        "denoising_steps": tuple(values["denoising_step_list"]),
        "shift": values["timestep_shift"],
        "context_timestep": values["context_noise"],
    }
    if "max_attention_frames" in values:
        fields["span_frames"] = values["max_attention_frames"]
    if "kv_cache_frames" in values:
        # The release's cache holds the sink and a full span.
        fields["sink_frames"] = values["kv_cache_frames"] - values["max_attention_frames"]
    stride = RollingConfig.__dataclass_fields__["spatial_stride"].default
    return rolling_preset(
        "golden",
        wan=wan_config(values),
        height=values["height"] * stride,
        width=values["width"] * stride,
        **(fields | stream),
    )
