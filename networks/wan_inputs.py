"""Names and shapes of the streaming Wan graphs' inputs and outputs, for export and for tests."""

from __future__ import annotations

import torch

from pipeline.config.rolling import RollingConfig

Shape = tuple[int, ...]
INTEGERS = ("slots", "write_index", "stored")


def window_inputs(config: RollingConfig, num_blocks: int, num_history: int) -> dict[str, Shape]:
    """Inputs of `dit_window` in order, for a window of so many blocks and cached ones."""
    frames, dim = num_blocks * config.frames_per_block, config.num_heads * config.head_dim
    shapes: dict[str, Shape] = {
        "latent": _latent(config, frames),
        "modulation": (frames, 6, dim),
        "head_modulation": (frames, dim),
        **_tables(config, frames, num_history),
    }
    return {**shapes, **_layers(config, "cache", config.cache_len), **_layers(config, "text")}


def clean_inputs(
    config: RollingConfig, num_history: int, num_blocks: int = 1, num_stored: int | None = None
) -> dict[str, Shape]:
    """Inputs of `dit_clean` in order; with `num_stored` those of `dit_recache`."""
    frames, dim = num_blocks * config.frames_per_block, config.num_heads * config.head_dim
    shapes: dict[str, Shape] = {
        "latent": _latent(config, frames),
        "modulation": (frames, 6, dim),
        **_tables(config, frames, num_history),
        "write_index": (1,),
    }
    if num_stored is not None:
        shapes["stored"] = (num_stored,)
    last = config.num_layers - 1  # whose K and V are all that is wanted
    text = {n: s for n, s in _layers(config, "text").items() if not n.endswith(f"_{last}")}
    return {**shapes, **_layers(config, "cache", config.cache_len), **text}


def text_inputs(config: RollingConfig) -> dict[str, Shape]:
    return {"text": (1, config.text_len, config.text_dim)}


def clean_outputs(config: RollingConfig) -> list[str]:
    return list(_layers(config, "present"))


def text_outputs(config: RollingConfig) -> list[str]:
    return list(_layers(config, "text"))


def dtype_of(name: str, floating: torch.dtype = torch.float32) -> torch.dtype:
    return torch.int64 if name in INTEGERS else floating


def _latent(config: RollingConfig, frames: int) -> Shape:
    batch, channels, _, height, width = config.latent_shape
    return (batch, channels, frames, height, width)


def _tables(config: RollingConfig, frames: int, num_history: int) -> dict[str, Shape]:
    pairs = config.head_dim // 2
    own = (frames, config.tokens_per_frame, pairs)
    history = (num_history, config.tokens_per_block, pairs)
    tables = {"cos": own, "sin": own, "cos_history": history, "sin_history": history}
    return {**tables, "slots": (num_history,)}


def _layers(config: RollingConfig, kind: str, length: int | None = None) -> dict[str, Shape]:
    """{kind}_k_i, {kind}_v_i of every layer i in turn, [1, N, length, d]."""
    shape = (1, config.num_heads, length or config.text_len, config.head_dim)
    return {f"{kind}_{kv}_{i}": shape for i in range(config.num_layers) for kv in "kv"}
