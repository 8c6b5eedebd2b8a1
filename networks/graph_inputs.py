"""Names and shapes of the transformer graphs' inputs and outputs, for whoever feeds them."""

from typing import TypeAlias

import torch

from pipeline.config.avatar import PipelineConfig
from pipeline.config.rolling import RollingConfig

Config: TypeAlias = PipelineConfig | RollingConfig
Shape = tuple[int, ...]
INTEGERS = ("write_index", "slots", "stored")


def embed_inputs(config: PipelineConfig) -> dict[str, Shape]:
    """Inputs of `dit_embed`: the block, and the pose, which is zero where there is none."""
    return {"latent": config.latent_shape, "pose": config.latent_shape}


def sink_inputs(config: PipelineConfig) -> dict[str, Shape]:
    """Inputs of `dit_sink`."""
    _, channels, _, height, width = config.latent_shape
    return {
        "reference": (1, channels, 1, height, width),
        "motion": (1, channels, config.motion_frames, height, width),
    }


def step_inputs(
    config: PipelineConfig, num_actors: int = 1, num_blocks: int | None = None
) -> dict[str, Shape]:
    """Inputs of `dit_step` in order; int64 where `dtype_of` says so.

    A block attends to the sink and `num_blocks` slots, None: to the whole cache. In a prefill the
    frame is one, its tokens are the sink's, and it attends to itself.
    """
    pairs, dim = config.head_dim // 2, config.num_heads * config.head_dim
    own = config.frames_per_block, config.tokens_per_frame
    num_blocks = config.window_blocks if num_blocks is None else num_blocks
    num_keys = config.num_sink_tokens + num_blocks * config.tokens_per_block
    shapes: dict[str, Shape] = {
        "tokens": (*own, dim),
        "audio_local": (num_actors, *config.audio_local_shape[1:]),
        "audio_global": (num_actors, *config.audio_global_shape[1:]),
        "actor_mask": (num_actors, *own, 1),
        "modulation": (1, 6, dim),
        "head_modulation": (1, dim),
        "cos_q": (*own, pairs),
        "sin_q": (*own, pairs),
        "cos_k": (1, num_keys, pairs),
        "sin_k": (1, num_keys, pairs),
        "write_index": (1,),
    }
    return {**shapes, **_caches(config), **_texts(config, config.num_layers)}


def window_inputs(config: RollingConfig, num_blocks: int, num_history: int) -> dict[str, Shape]:
    """Inputs of `dit_window` in order, for a window of so many blocks and cached ones."""
    frames, dim = num_blocks * config.frames_per_block, config.num_heads * config.head_dim
    shapes: dict[str, Shape] = {
        "latent": _latent(config, frames),
        "modulation": (frames, 6, dim),
        "head_modulation": (frames, dim),
        **_tables(config, frames, num_history),
    }
    return {**shapes, **_caches(config), **_texts(config, config.num_layers)}


def clean_inputs(
    config: RollingConfig, num_history: int, num_blocks: int = 1, num_stored: int | None = None
) -> dict[str, Shape]:
    """Inputs of `dit_clean` in order; with `num_stored` those of `dit_recache`. The last layer's
    text is none of them.
    """
    frames, dim = num_blocks * config.frames_per_block, config.num_heads * config.head_dim
    shapes: dict[str, Shape] = {
        "latent": _latent(config, frames),
        "modulation": (frames, 6, dim),
        **_tables(config, frames, num_history),
        "write_index": (1,),
    }
    if num_stored is not None:
        shapes["stored"] = (num_stored,)
    return {**shapes, **_caches(config), **_texts(config, config.num_layers - 1)}


def text_inputs(config: Config) -> dict[str, Shape]:
    """The input of `dit_text`: a prompt's rows, zeros after them."""
    return {"text": (1, config.text_len, config.text_dim)}


def audio_inputs(config: PipelineConfig, num_actors: int = 1) -> dict[str, Shape]:
    """The input of `audio_tokens`: a block's features."""
    frames = config.video_frames_per_block
    return {"audio_features": (num_actors, config.audio_layers, config.audio_dim, frames)}


def step_outputs(config: PipelineConfig) -> list[str]:
    return ["velocity", *present_outputs(config)]


def present_outputs(config: Config) -> list[str]:
    """Outputs of `dit_clean` and `dit_recache`: the caches after the write."""
    return _layers("present", config.num_layers)


def text_outputs(config: Config) -> list[str]:
    return _layers("text", config.num_layers)


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


def _caches(config: Config) -> dict[str, Shape]:
    shape = (1, config.num_heads, config.cache_len, config.head_dim)
    return dict.fromkeys(_layers("cache", config.num_layers), shape)


def _texts(config: Config, num_layers: int) -> dict[str, Shape]:
    shape = (1, config.num_heads, config.text_len, config.head_dim)
    return dict.fromkeys(_layers("text", num_layers), shape)


def _layers(kind: str, num_layers: int) -> list[str]:
    """{kind}_k_i, {kind}_v_i of every layer i in turn."""
    return [f"{kind}_{kv}_{i}" for i in range(num_layers) for kv in "kv"]
