"""The memory table of engines that are not built yet, from the preset's shapes.

    python -m export.checks.estimate --preset 14b --precision fp8 --gpus 5 --gpu-memory-gb 80

Weights and caches are exact; scratch memory is an estimate that only a built engine settles.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Annotated

import torch
import typer
from torch import nn

from export.commands import Size, failing_in_words
from export.engines.build import STREAMED
from export.engines.profiles import pass_ranges
from export.graphs.fp8 import fp8_layers
from export.presets import AnyName, AnyPreset, any_preset, builders
from export.repository.deployment import LARGER_GPU
from export.repository.memory import (
    MAKES_ROOM,
    EngineSize,
    GpuMemory,
    avatar_memory,
    check_fits,
    format_table,
    rolling_memory,
)
from export.repository.placement import place
from networks import graph_inputs
from networks.compact_vae import CompactVAE, build_vae
from networks.presets import Preset
from networks.rolling_presets import RollingPreset
from networks.vae import VAE

Sizes = dict[str, EngineSize]
"""By graph name."""
Shapes = Mapping[str, tuple[int, ...]]
WIDE, SINGLE = 2, 4
"""Bytes of bfloat16 and float16, and of float32."""
TIME = ("time_embedding.", "time_projection.")
"""Parts of a transformer whose results are in a table beside the graphs."""
PROMPT = ("text_embedding.", ".cross_attn.k.", ".cross_attn.v.", ".cross_attn.norm_k.")
"""Parts of names of what `dit_text` alone runs."""
SUSTAINED = {"bf16": 470.0, "fp16": 470.0, "fp8": 620.0}
"""TFLOP/s of an H100 in a denoising step: an estimate that no GPU has confirmed."""
AUDIO = "casual_audio_encoder."
"""What `audio_tokens` alone runs."""
EMBEDDINGS = ("patch_embedding.", "cond_encoder.", "frame_packer.", "trainable_cond_mask.")
KEPT = ("cache_", "text_")
"""Inputs that stay on the device."""


def sizes_of(preset: AnyPreset, precision: str) -> Sizes:
    """Every engine of a preset; `precision` is bf16, fp16 or the avatar's fp8 (linear layers)."""
    is_rolling = isinstance(preset, RollingPreset)
    known = ("bf16", "fp16") if is_rolling else ("bf16", "fp16", "fp8")
    if precision not in known:
        names = ", ".join(known)
        raise ValueError(f"precision is {precision!r}, {preset.name} has graphs in {names}")
    transformer = (
        _wan_sizes(preset)
        if isinstance(preset, RollingPreset)
        else _dit_sizes(preset, precision == "fp8")
    )
    return {**transformer, **_vae_sizes(preset), **_encoder_sizes(preset)}


def _dit_sizes(preset: Preset, narrow: bool) -> Sizes:
    c, d = preset.pipeline, preset.dit
    share = _shares(_network(preset, "dit"), narrow)
    shapes = graph_inputs.step_inputs(c)
    passes = share(lambda key: not (key.startswith((AUDIO, *EMBEDDINGS)) or _is_prompt(key)))
    return {
        "dit_step": EngineSize(
            weights=passes,
            # Rotated keys and seen values of a layer, the widest activation twice.
            scratch=2 * (c.cache_len * d.dim + c.tokens_per_block * d.ffn_dim) * WIDE,
            shared=_elements(shapes, "text_") * WIDE,
            state=_elements(shapes, "cache_") * WIDE,
            binding=_wire(shapes),
        ),
        **{
            name: EngineSize(
                weights=share(lambda key: key.startswith(EMBEDDINGS)),
                scratch=0,
                binding=_wire(inputs),
            )
            for name, inputs in (
                ("dit_embed", graph_inputs.embed_inputs(c)),
                ("dit_sink", graph_inputs.sink_inputs(c)),
            )
        },
        "dit_text": EngineSize(
            weights=share(_is_prompt),
            scratch=3 * c.text_len * d.dim * WIDE,
            binding=_elements(graph_inputs.text_inputs(c)) * SINGLE,
        ),
        "audio_tokens": EngineSize(
            weights=share(lambda key: key.startswith(AUDIO)),
            scratch=2 * _elements(graph_inputs.audio_inputs(c)) * SINGLE,
        ),
    }


def _wan_sizes(preset: RollingPreset) -> Sizes:
    c, ranges = preset.stream, pass_ranges(preset.stream)
    most = {graph: {axis: sizes[2] for axis, sizes in r.items()} for graph, r in ranges.items()}
    window, clean, again = (most[f"dit_{name}"] for name in ("window", "clean", "recache"))
    share = _shares(_network(preset, "wan"))
    passes = share(lambda key: not _is_prompt(key))
    without_head = passes - share(lambda key: key.startswith("head."))
    shapes = {
        "dit_window": graph_inputs.window_inputs(
            c, window["frames"] // c.frames_per_block, window["history"]
        ),
        "dit_clean": graph_inputs.clean_inputs(c, clean["history"]),
        "dit_recache": graph_inputs.clean_inputs(
            c, again["history"], again["frames"] // c.frames_per_block, again["stored_blocks"]
        ),
    }
    sizes = {
        name: EngineSize(
            weights=without_head, scratch=_wan_scratch(preset, inputs), binding=_wire(inputs)
        )
        for name, inputs in shapes.items()
    }
    held = shapes["dit_window"]
    sizes["dit_window"] = dataclasses.replace(
        sizes["dit_window"],
        weights=passes,
        state=_elements(held, "cache_") * WIDE,
        shared=_elements(held, "text_") * WIDE,
        binding=_wire(held) + math.prod(held["latent"]) * SINGLE,
    )
    text = math.prod(graph_inputs.text_inputs(c)["text"]) * SINGLE
    sizes["dit_text"] = EngineSize(weights=share(_is_prompt), scratch=text, binding=text)
    return sizes


def _wan_scratch(preset: RollingPreset, inputs: Shapes) -> int:
    """Two layers' worth of the seen keys, K and V, and the widest activation twice."""
    c = preset.stream
    queries = inputs["cos"][0] * c.tokens_per_frame
    keys = queries + inputs["cos_history"][0] * c.tokens_per_block
    return (4 * keys * preset.wan.dim + 2 * queries * preset.wan.ffn_dim) * WIDE


def _vae_sizes(preset: AnyPreset) -> Sizes:
    c = preset.stream if isinstance(preset, RollingPreset) else preset.pipeline
    assert preset.vae is not None
    first = c.latent_shape
    if isinstance(preset, Preset):  # motion latents warm it up
        first = (*first[:2], preset.pipeline.warmup_frames, *first[3:])
    with torch.device("meta"):
        vae: VAE | CompactVAE = build_vae(preset.vae)
        state = sum(tensor.numel() for tensor in vae.decode(torch.zeros(first))[1]) * WIDE
        still = torch.zeros(1, 3, 1, c.height, c.width)
        pose_state = sum(tensor.numel() for tensor in vae.encode_on(still)[1]) * WIDE
    share = _shares(vae)
    pixels = c.frames_per_block * c.temporal_stride * c.height * c.width
    # Three frames side by side before the widest convolution, with its input and its result.
    scratch = 5 * preset.vae.dim * pixels * WIDE
    start = EngineSize(weights=share(lambda key: key.startswith("decoder.")), scratch=scratch)
    encoder = EngineSize(weights=share(lambda key: key.startswith("encoder.")), scratch=scratch)
    frames = 3 * pixels + SINGLE * math.prod(c.latent_shape)
    return {
        "vae_decoder": dataclasses.replace(start, state=2 * state, binding=frames),
        "vae_decoder_warmup": start,
        "vae_decoder_first": start,
        "vae_encoder": encoder,
        "pose_encoder": dataclasses.replace(encoder, state=2 * pose_state, binding=frames),
        "pose_encoder_start": encoder,
    }


def _encoder_sizes(preset: AnyPreset) -> Sizes:
    names = {"audio_encoder", "text_encoder"} & set(builders(preset))
    return {
        name: EngineSize(weights=_shares(_network(preset, name))(bool), scratch=0) for name in names
    }


def _network(preset: AnyPreset, component: str) -> nn.Module:
    with torch.device("meta"):
        return builders(preset)[component]()


def _shares(network: nn.Module, narrow: bool = False) -> Callable[[Callable[[str], bool]], int]:
    """What counts the bytes of the parameters whose names it is asked for."""
    eight = {f"{name}.weight" for name in fp8_layers(network)} if narrow else set()
    weights = {
        key: tensor.numel() * (1 if key in eight else WIDE)
        for key, tensor in network.named_parameters()
        if not key.startswith(TIME)
    }
    return lambda holds: sum(size for key, size in weights.items() if holds(key))


def host_bytes(sizes: Sizes) -> int:
    """What building the largest plan holds: the network's weights and the plan."""
    return 2 * max(size.weights for size in sizes.values())


def _is_prompt(key: str) -> bool:
    return any(part in key for part in PROMPT)


def _elements(shapes: Shapes, prefix: str | tuple[str, ...] = "") -> int:
    return sum(math.prod(shape) for name, shape in shapes.items() if name.startswith(prefix))


def _wire(shapes: Shapes) -> int:
    """Bytes of what comes with every call."""
    return SINGLE * (_elements(shapes) - _elements(shapes, KEPT))


def memory_of(
    preset: AnyPreset,
    sizes: Sizes,
    gpus: int | None,
    capacity: int,
    flops: float,
    *,
    actors: int = 1,
    pose: bool = False,
) -> list[GpuMemory]:
    """A row for each GPU, which does `flops` operations a second; `gpus` None is one for each step
    and one for the VAE. `actors` of a session, and whether it has a pose video. How busy a GPU is
    with text to video is not known."""
    if isinstance(preset, RollingPreset):
        return [rolling_memory(preset.stream, sizes, capacity)]
    c = preset.pipeline
    placement = place(c.num_steps, gpus or c.num_steps + 1)
    step_share = step_flop(preset, actors) / flops * c.fps / c.video_frames_per_block
    return avatar_memory(placement, sizes, capacity, step_share, pose=pose)


def step_flop(preset: Preset, actors: int = 1) -> int:
    """Floating-point operations of a denoising step on a full cache: matrix products and attention
    to cache, prompt and the audio of each actor."""
    c, d = preset.pipeline, preset.dit
    products = d.num_layers * (6 * d.dim + 2 * d.ffn_dim)
    products += actors * len(d.inject_layers) * 2 * d.dim
    attended = d.num_layers * (c.cache_len + c.text_len)
    return 2 * c.tokens_per_block * d.dim * (products + 2 * attended)


@failing_in_words()
def main(
    preset: AnyName = "14b",
    precision: Annotated[str, typer.Option(help="bf16, fp16 or fp8")] = "bf16",
    gpus: Annotated[int | None, typer.Option(help="how many; else one each")] = None,
    gpu_memory_gb: Annotated[float, typer.Option(help="memory of each")] = 80,
    sessions: Annotated[int, typer.Option(help="how many must fit")] = 1,
    tflops: Annotated[
        float | None, typer.Option(help="what a GPU sustains; else estimated for an H100")
    ] = None,
    stream_weights: Annotated[
        bool,
        typer.Option(help=f"leave the weights of {', '.join(STREAMED)} in host memory"),
    ] = False,
    actors: Annotated[int, typer.Option(help="of a session, each with a sound of his own")] = 1,
    pose: Annotated[bool, typer.Option("--pose", help="sessions may have a pose video")] = False,
    size: Size = None,
) -> None:
    """Print the memory table; exit code 1 if the sessions do not fit."""
    chosen = any_preset(preset, size)
    is_rolling = isinstance(chosen, RollingPreset)
    if is_rolling and (gpus not in (None, 1) or stream_weights):
        raise ValueError(f"{preset} runs on 1 GPU, with its weights in its memory")
    most = 1 if isinstance(chosen, RollingPreset) else chosen.pipeline.max_actors
    if not 1 <= actors <= most or (is_rolling and pose):
        raise ValueError(f"{actors} actors{' and a pose' * pose}, wanted 1..{most} for {preset}")
    sizes = sizes_of(chosen, precision)
    if stream_weights:
        sizes |= {name: dataclasses.replace(sizes[name], weights=0) for name in STREAMED}
    flops = 1e12 * (SUSTAINED[precision] if tflops is None else tflops)
    capacity = int(gpu_memory_gb * 1e9)
    rows = memory_of(chosen, sizes, gpus, capacity, flops, actors=actors, pose=pose)
    typer.echo(format_table(rows))
    typer.echo(f"host memory to build: about {host_bytes(sizes) / 1e9:.0f} GB")
    check_fits(rows, sessions, LARGER_GPU if is_rolling else MAKES_ROOM)


if __name__ == "__main__":
    typer.run(main)
