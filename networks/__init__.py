"""The networks as PyTorch modules, their sizes, and the presets that put them together."""
