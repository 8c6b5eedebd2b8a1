"""The memory table of engines that are not built yet, from the preset's shapes.

    python -m export.checks.estimate --preset 14b --precision fp8 --gpus 5 --gpu-memory-gb 80

Weights and caches are exact; scratch memory is an estimate that only a built engine settles.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable
from typing import Annotated

import torch
import typer

from export.checks.rolling_estimate import rolling_row
from export.engines.build import STREAMED
from export.graphs.fp8 import fp8_layers
from export.init_weights import builders
from export.preset_options import SIZE_HELP, preset_named
from export.repository.memory import EngineSize, check_fits, format_table, memory_table
from export.repository.placement import place
from export.repository.rolling import MAKES_ROOM
from networks.compact_vae import CompactVAE, build_vae
from networks.dit import DiT
from networks.graph_inputs import audio_inputs, prefill_inputs, step_inputs, text_inputs
from networks.presets import Preset
from networks.rolling_presets import ROLLING_PRESETS
from networks.vae import VAE

WIDE = 2
"""Bytes of bfloat16 and float16."""
ONLY_PREFILL = ("frame_packer.",)
ONLY_STEP = ("audio_injector.", "head.", "cond_encoder.")
AUDIO, TEXT = "casual_audio_encoder.", "text_embedding."
"""Parts that `audio_tokens` and `dit_text` alone run."""
NEITHER = ("time_embedding.", "time_projection.")
"""Their results are in timesteps.safetensors."""
TEXT_KV = (".cross_attn.k.", ".cross_attn.v.", ".cross_attn.norm_k.")
"""Parts of every block that `dit_text` alone runs."""


def sizes_of(preset: Preset, precision: str) -> dict[str, EngineSize]:
    """By graph name; `precision` is bf16, fp16 or fp8 (of the DiT's linear layers)."""
    if precision not in ("bf16", "fp16", "fp8"):
        raise ValueError(f"precision is {precision!r}, wanted bf16, fp16 or fp8")
    return {**_dit_sizes(preset, precision == "fp8"), **_vae_sizes(preset), **_encoders(preset)}


def _dit_sizes(preset: Preset, narrow: bool) -> dict[str, EngineSize]:
    with torch.device("meta"):
        dit = DiT(preset.dit)
    narrow_keys = {f"{name}.weight" for name in fp8_layers(dit)} if narrow else set()
    weights = {
        key: tensor.numel() * (1 if key in narrow_keys else WIDE)
        for key, tensor in dit.state_dict().items()
        if not key.startswith(NEITHER)
    }
    audio = _share(weights, lambda key: key.startswith(AUDIO))
    prompt = _share(weights, _is_text)
    others = {k: n for k, n in weights.items() if not _is_text(k) and not k.startswith(AUDIO)}
    step = _share(others, lambda key: not key.startswith(ONLY_PREFILL))
    prefill = _share(others, lambda key: not key.startswith(ONLY_STEP))
    c, d = preset.pipeline, preset.dit
    shapes = step_inputs(c)
    cache, text = (_elements(shapes, name) * WIDE for name in ("cache_", "text_"))
    queries, keys = c.tokens_per_block, c.cache_len
    # Rotated keys of a layer, the mask, the widest activation twice.
    scratch = keys * d.dim * WIDE + queries * keys + 2 * queries * d.ffn_dim * WIDE
    wire = {n: s for n, s in shapes.items() if not n.startswith(("cache_", "text_"))}
    filled = {n: s for n, s in prefill_inputs(c).items() if not n.startswith(("cache_", "text_"))}
    return {
        "dit_step": EngineSize(
            weights=step,
            scratch=scratch,
            shared=text,
            state=cache,
            binding=_elements(wire) * 4,
        ),
        "dit_prefill": EngineSize(weights=prefill, scratch=scratch, binding=_elements(filled) * 4),
        "dit_text": EngineSize(
            weights=prompt,
            scratch=3 * c.text_len * d.dim * WIDE,
            binding=_elements(text_inputs(c)) * 4,
        ),
        "audio_tokens": EngineSize(weights=audio, scratch=2 * _elements(audio_inputs(c)) * 4),
    }


def _is_text(key: str) -> bool:
    return key.startswith(TEXT) or any(part in key for part in TEXT_KV)


def _share(weights: dict[str, int], holds: Callable[[str], bool]) -> int:
    return sum(size for key, size in weights.items() if holds(key))


def _elements(shapes: dict[str, tuple[int, ...]], prefix: str = "") -> int:
    return sum(math.prod(shape) for name, shape in shapes.items() if name.startswith(prefix))


def _vae_sizes(preset: Preset) -> dict[str, EngineSize]:
    c = preset.pipeline
    with torch.device("meta"):
        vae: VAE | CompactVAE = build_vae(preset.vae)
        h, w = c.latent_height, c.latent_width
        motion = torch.zeros(1, c.latent_channels, c.warmup_frames, h, w)
        state = sum(tensor.numel() for tensor in vae.decode(motion)[1]) * WIDE
    parts = {
        name: sum(p.numel() for n, p in vae.named_parameters() if n.startswith(name)) * WIDE
        for name in ("encoder.", "decoder.")
    }
    # Three frames side by side before the widest convolution, with its input and its result.
    pixels = c.video_frames_per_block * c.height * c.width
    scratch = 5 * preset.vae.dim * pixels * WIDE
    frames = 3 * pixels + 4 * math.prod(c.latent_shape)
    decoder = EngineSize(
        weights=parts["decoder."], scratch=scratch, state=2 * state, binding=frames
    )
    warmup = EngineSize(weights=parts["decoder."], scratch=scratch)
    encoder = EngineSize(weights=parts["encoder."], scratch=scratch)
    return {"vae_decoder": decoder, "vae_decoder_warmup": warmup, "vae_encoder": encoder}


def _encoders(preset: Preset) -> dict[str, EngineSize]:
    made = {}
    for name in ("audio_encoder", "text_encoder"):
        with torch.device("meta"):
            network = builders(preset)[name]()
        weights = sum(p.numel() for p in network.parameters()) * WIDE
        made[name] = EngineSize(weights=weights, scratch=0)
    return made


def main(
    preset: Annotated[str, typer.Option(help="which sizes")] = "14b",
    precision: Annotated[str, typer.Option(help="bf16, fp16 or fp8")] = "bf16",
    gpus: Annotated[int | None, typer.Option(help="how many; else one each")] = None,
    gpu_memory_gb: Annotated[float, typer.Option(help="memory of each")] = 80,
    sessions: Annotated[int, typer.Option(help="how many must fit")] = 1,
    stream_weights: Annotated[
        bool,
        typer.Option(help=f"leave the weights of {', '.join(STREAMED)} in host memory"),
    ] = False,
    size: Annotated[str | None, typer.Option(help=SIZE_HELP)] = None,
) -> None:
    """Print the memory table; exit code 1 if the sessions do not fit."""
    if preset in ROLLING_PRESETS:
        _plan_rolling(preset, precision, gpus, int(gpu_memory_gb * 1e9), sessions, stream_weights)
        return
    chosen = preset_named(preset, size)
    try:
        sizes = sizes_of(chosen, precision)
        if stream_weights:
            sizes |= {name: dataclasses.replace(sizes[name], weights=0) for name in STREAMED}
        placement = place(chosen.pipeline.num_steps, gpus or chosen.pipeline.num_steps + 1)
        rows = memory_table(placement, sizes, int(gpu_memory_gb * 1e9))
        print(format_table(rows))
        check_fits(rows, sessions)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


def _plan_rolling(
    preset: str, precision: str, gpus: int | None, capacity: int, sessions: int, streams: bool
) -> None:
    """The same for text-to-video streams, which run on one GPU."""
    try:
        if gpus not in (None, 1) or streams:
            raise ValueError(f"{preset} runs on 1 GPU, with its weights in its memory")
        rows = [rolling_row(ROLLING_PRESETS[preset], precision, capacity)]
        print(format_table(rows))
        check_fits(rows, sessions, MAKES_ROOM)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(main)
