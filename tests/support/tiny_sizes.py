"""Sizes of transformers on which a block takes a few milliseconds."""

TINY = {"dim": 24, "freq_dim": 16, "num_heads": 2, "channels": 4, "text_dim": 8, "text_len": 5}
"""Of `WanConfig` and `DiTConfig`, without their depth."""
