"""The presets that are trained here."""

from networks.configs import WanConfig
from networks.presets import DEMO_SIZES, PRESETS
from networks.rolling_presets import RollingPreset, rolling_preset

PRESET = PRESETS["demo"]
SIZE = PRESET.pipeline.height  # side of its picture in pixels

SCENES: RollingPreset = rolling_preset(
    "rolling-demo",
    wan=WanConfig(
        **{**DEMO_SIZES, "dim": 192, "ffn_dim": 768, "num_heads": 3, "patch_size": 2,
           "text_len": 192}
    ),
    vae=PRESET.vae,
    text=PRESET.text,
    height=96,
    width=96,
)  # fmt: skip
"""Text to video, as it is being trained. `networks.rolling_presets` has the sizes of what is
shipped, whose weights are random; these sizes take its place with the weights."""
