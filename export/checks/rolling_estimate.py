"""The memory of text-to-video plans that are not built yet, from the preset's shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch

from export.engines.rolling_profiles import Range, pass_ranges
from export.init_weights import builders
from export.repository.memory import EngineSize, GpuMemory
from export.repository.rolling import memory_row
from networks.compact_vae import CompactVAE, build_vae
from networks.graph_inputs import Shape, clean_inputs, text_inputs, window_inputs
from networks.rolling_presets import RollingPreset
from networks.vae import VAE

WIDE = 2
"""Bytes of bfloat16 and float16."""
PROMPT = ("text_embedding.", ".cross_attn.k.", ".cross_attn.v.", ".cross_attn.norm_k.")
"""Parts that `dit_text` alone runs."""
TIME = ("time_embedding.", "time_projection.")
"""Their results are in window_timesteps.safetensors."""


def rolling_row(preset: RollingPreset, precision: str, capacity: int) -> GpuMemory:
    """The one GPU's memory, in bytes; ValueError if there are no graphs in `precision`."""
    if precision not in ("bf16", "fp16"):
        raise ValueError(f"precision is {precision!r}, {preset.name} has graphs in bf16 and fp16")
    sizes = {**_window_sizes(preset), **_other_sizes(preset)}
    return memory_row(sizes, preset.stream, capacity)


def _window_sizes(preset: RollingPreset) -> dict[str, EngineSize]:
    c, ranges = preset.stream, pass_ranges(preset.stream)
    with torch.device("meta"):
        state = builders(preset)["wan"]().state_dict()
    weights = {k: t.numel() * WIDE for k, t in state.items() if not k.startswith(TIME)}

    def share(holds: Callable[[str], bool]) -> int:
        return sum(size for key, size in weights.items() if holds(key))

    window, clean, again = (ranges[f"dit_{name}"] for name in ("window", "clean", "recache"))
    shapes = {
        "dit_window": window_inputs(
            c, _most(window, "frames", c.frames_per_block), window["history"][2]
        ),
        "dit_clean": clean_inputs(c, clean["history"][2]),
        "dit_recache": clean_inputs(
            c,
            again["history"][2],
            _most(again, "frames", c.frames_per_block),
            again["stored_blocks"][2],
        ),
    }
    passes = share(lambda key: not _is_prompt(key))
    head = share(lambda key: key.startswith("head."))
    made = {
        name: EngineSize(
            weights=passes if name == "dit_window" else passes - head,
            scratch=_scratch(preset, inputs),
            state=_bytes(inputs, ("cache_",)) if name == "dit_window" else 0,
            shared=_bytes(inputs, ("text_",)) if name == "dit_window" else 0,
            binding=_wire(inputs)
            + (4 * math.prod(inputs["latent"]) if name == "dit_window" else 0),
        )
        for name, inputs in shapes.items()
    }
    text = 4 * math.prod(text_inputs(c)["text"])
    prompt = share(_is_prompt)
    return {**made, "dit_text": EngineSize(weights=prompt, scratch=text, binding=text)}


def _is_prompt(key: str) -> bool:
    return any(part in key for part in PROMPT)


def _most(ranges: Mapping[str, Range], axis: str, per_block: int) -> int:
    return ranges[axis][2] // per_block


def _bytes(inputs: Mapping[str, Shape], prefixes: tuple[str, ...]) -> int:
    return WIDE * sum(math.prod(s) for name, s in inputs.items() if name.startswith(prefixes))


def _wire(inputs: Mapping[str, Shape]) -> int:
    kept = ("cache_", "text_")
    return 4 * sum(math.prod(s) for name, s in inputs.items() if not name.startswith(kept))


def _scratch(preset: RollingPreset, inputs: Mapping[str, Shape]) -> int:
    """Two layers' worth of the seen keys, K and V, and the widest activation twice."""
    c = preset.stream
    queries = inputs["cos"][0] * c.tokens_per_frame
    keys = queries + inputs["cos_history"][0] * c.tokens_per_block
    return (4 * keys * preset.wan.dim + 2 * queries * preset.wan.ffn_dim) * WIDE


def _other_sizes(preset: RollingPreset) -> dict[str, EngineSize]:
    c, vae_config = preset.stream, preset.vae
    assert vae_config is not None
    with torch.device("meta"):
        vae: VAE | CompactVAE = build_vae(vae_config)
        state = sum(t.numel() for t in vae.decode(torch.zeros(c.latent_shape))[1]) * WIDE
        text = sum(p.numel() for p in builders(preset)["text_encoder"]().parameters()) * WIDE
    weights = sum(p.numel() for n, p in vae.named_parameters() if n.startswith("decoder.")) * WIDE
    pixels = c.frames_per_block * c.temporal_stride * c.height * c.width
    # Three frames side by side before the widest convolution, with its input and its result.
    scratch = 5 * vae_config.dim * pixels * WIDE
    frames = 3 * pixels + 4 * math.prod(c.latent_shape)
    return {
        "vae_decoder": EngineSize(
            weights=weights, scratch=scratch, state=2 * state, binding=frames
        ),
        "vae_decoder_first": EngineSize(weights=weights, scratch=scratch),
        "text_encoder": EngineSize(weights=text, scratch=0),
    }
