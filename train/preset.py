"""The preset that is trained here."""

from networks.presets import PRESETS

PRESET = PRESETS["demo"]
