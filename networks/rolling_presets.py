"""The presets of text-to-video streams: which networks belong together, and with which stream."""

from dataclasses import dataclass
from typing import Any

from networks.configs import CompactVAEConfig, TextEncoderConfig, VAEConfig, WanConfig
from networks.presets import DEMO_SIZES, PRESETS, check_equal, stated, stated_twice
from pipeline.config.rolling import RollingConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingPreset:
    """All networks of one deployment and its stream, checked against each other. `vae` and `text`
    are None where a fixture set has none."""

    name: str
    wan: WanConfig
    stream: RollingConfig
    vae: VAEConfig | CompactVAEConfig | None = None
    text: TextEncoderConfig | None = None

    def __post_init__(self) -> None:
        wan, stream = self.wan, self.stream
        pairs = {
            "preset name": (self.name, stream.preset),
            **stated_twice(wan, stream),
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
    """A preset whose RollingConfig takes from the networks what they already say; `stream` holds
    its remaining fields (height and width at least)."""
    config = RollingConfig(preset=name, **stated(wan), **stream)
    return RollingPreset(name=name, wan=wan, vae=vae, text=text, stream=config)


_DEMO = rolling_preset(
    "rolling-demo",
    wan=WanConfig(**DEMO_SIZES),
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
