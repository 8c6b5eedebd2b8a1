"""The preset that is trained here."""

from networks.presets import PRESETS

PRESET = PRESETS["demo"]
SIZE = PRESET.pipeline.height  # side of its picture in pixels
