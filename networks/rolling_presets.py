"""The presets of text-to-video streams: which networks belong together, and with which stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from networks.configs import CompactVAEConfig, TextEncoderConfig, VAEConfig, WanConfig
from networks.presets import PRESETS, check_equal
from pipeline.config.rolling import RollingConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingPreset:
    """All networks of one deployment and its stream, checked against each other.

    `vae` and `text` are None where a fixture set has none.
    """

    name: str
    wan: WanConfig
    stream: RollingConfig
    vae: VAEConfig | CompactVAEConfig | None = None
    text: TextEncoderConfig | None = None

    def __post_init__(self) -> None:
        wan, stream = self.wan, self.stream
        pairs = {
            "preset name": (self.name, stream.preset),
            "num_layers": (wan.num_layers, stream.num_layers),
            "num_heads": (wan.num_heads, stream.num_heads),
            "head_dim": (wan.head_dim, stream.head_dim),
            "patch_size": (wan.patch_size, stream.patch_size),
            "text_len": (wan.text_len, stream.text_len),
            "text_dim": (wan.text_dim, stream.text_dim),
            "latent channels": (wan.channels, stream.latent_channels),
        }
        if self.vae is not None:
            pairs["latent channels of transformer and VAE"] = (wan.channels, self.vae.z_dim)
        if self.text is not None:
            pairs["text_dim of transformer and encoder"] = (wan.text_dim, self.text.dim)
        check_equal(self.name, pairs)


def rolling_preset(
    name: str,
    *,
    wan: WanConfig,
    vae: VAEConfig | CompactVAEConfig | None = None,
    text: TextEncoderConfig | None = None,
    **stream: Any,
) -> RollingPreset:
    """A preset whose RollingConfig takes from the networks what they already say.

    `stream` holds the remaining RollingConfig fields (height and width at least).
    """
    config = RollingConfig(
        preset=name,
        latent_channels=wan.channels,
        patch_size=wan.patch_size,
        num_layers=wan.num_layers,
        num_heads=wan.num_heads,
        head_dim=wan.head_dim,
        text_len=wan.text_len,
        text_dim=wan.text_dim,
        **stream,
    )
    return RollingPreset(name=name, wan=wan, vae=vae, text=text, stream=config)


_DEMO = rolling_preset(
    "rolling-demo",
    wan=WanConfig(
        dim=128,
        ffn_dim=512,
        freq_dim=64,
        num_heads=2,
        num_layers=6,
        patch_size=1,
        text_dim=64,
        text_len=160,
    ),
    vae=PRESETS["demo"].vae,
    text=PRESETS["demo"].text,
    height=64,
    width=64,
)

_WAN_1_3B = rolling_preset(
    "rolling-1.3b",
    wan=WanConfig(
        dim=1536,
        ffn_dim=8960,
        freq_dim=256,
        num_heads=12,
        num_layers=30,
        text_dim=4096,
        text_len=512,
    ),
    vae=PRESETS["14b"].vae,
    text=PRESETS["14b"].text,
    height=480,
    width=832,
    tokenizer="tokenizer.json",
)

ROLLING_PRESETS: dict[str, RollingPreset] = {p.name: p for p in (_DEMO, _WAN_1_3B)}


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
