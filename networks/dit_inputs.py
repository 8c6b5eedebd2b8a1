"""Names and shapes of the DiT graphs' inputs and outputs, for export and for whoever feeds them."""

from __future__ import annotations

import torch

from pipeline.config.avatar import PipelineConfig

Shape = tuple[int, ...]


def step_inputs(config: PipelineConfig, num_actors: int = 1) -> dict[str, Shape]:
    """Inputs of `dit_step` in order; int64 where `dtype_of` says so."""
    block, tokens, pairs = config.latent_shape, config.tokens_per_block, config.head_dim // 2
    dim = config.num_heads * config.head_dim
    shapes: dict[str, Shape] = {
        "latent": block,
        "pose": block,
        "audio_local": (num_actors, *config.audio_local_shape[1:]),
        "audio_global": (num_actors, *config.audio_global_shape[1:]),
        "actor_mask": (num_actors, tokens, 1),
        "modulation": (1, 6, dim),
        "head_modulation": (1, dim),
        "dsigma": (1,),
        "cos_q": (1, tokens, pairs),
        "sin_q": (1, tokens, pairs),
        "cos_k": (1, config.cache_len, pairs),
        "sin_k": (1, config.cache_len, pairs),
        "write_index": (1,),
        "valid_tokens": (1,),
    }
    return {**shapes, **_layers(config, "cache", config.cache_len), **_layers(config, "text")}


def prefill_inputs(config: PipelineConfig) -> dict[str, Shape]:
    """Inputs of `dit_prefill` in order; the last layer's text is none of them."""
    _, channels, _, height, width = config.latent_shape
    sink = (1, config.num_sink_tokens, config.head_dim // 2)
    shapes: dict[str, Shape] = {
        "reference": (1, channels, 1, height, width),
        "motion": (1, channels, config.motion_frames, height, width),
        "modulation": (1, 6, config.num_heads * config.head_dim),
        "cos_sink": sink,
        "sin_sink": sink,
        "write_index": (1,),
    }
    text = _layers(config, "text", num_layers=config.num_layers - 1)
    return {**shapes, **_layers(config, "cache", config.cache_len), **text}


def text_inputs(config: PipelineConfig) -> dict[str, Shape]:
    """The input of `dit_text`: a prompt's rows, zeros after them."""
    return {"text": (1, config.text_len, config.text_dim)}


def audio_inputs(config: PipelineConfig, num_actors: int = 1) -> dict[str, Shape]:
    """The input of `audio_tokens`: a block's features."""
    frames = config.video_frames_per_block
    return {"audio_features": (num_actors, config.audio_layers, config.audio_dim, frames)}


def step_outputs(config: PipelineConfig) -> list[str]:
    return ["next_latent", *_layers(config, "present")]


def prefill_outputs(config: PipelineConfig) -> list[str]:
    return [*_layers(config, "present")]


def text_outputs(config: PipelineConfig) -> list[str]:
    return [*_layers(config, "text")]


def dtype_of(name: str, floating: torch.dtype = torch.float32) -> torch.dtype:
    return torch.int64 if name in ("write_index", "valid_tokens") else floating


def _layers(
    config: PipelineConfig, kind: str, length: int | None = None, num_layers: int | None = None
) -> dict[str, Shape]:
    """{kind}_k_i, {kind}_v_i of every layer i in turn, or the first ones, [1, N, length, d]."""
    shape = (1, config.num_heads, length or config.text_len, config.head_dim)
    layers = range(config.num_layers if num_layers is None else num_layers)
    return {f"{kind}_{kv}_{i}": shape for i in layers for kv in "kv"}
