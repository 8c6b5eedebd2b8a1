"""The graphs of the avatar's DiT, and the timesteps that a server may need of it."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from export.checkpoint.files import Weights
from export.checkpoint.fit import check_fits
from export.graphs.fp8 import make_fp8
from export.graphs.graph import Graph, examples, network_graph
from export.graphs.time_mlp import load_time_mlp, timestep_tables
from networks.checkpoint import load_checkpoint
from networks.dit import DiT, DiTEmbed, DiTSink, DiTStep
from networks.graph_inputs import (
    audio_inputs,
    embed_inputs,
    sink_inputs,
    step_inputs,
    step_outputs,
    text_inputs,
    text_outputs,
)
from networks.presets import Preset
from networks.transformer import TextKeysValues
from pipeline.denoising.schedule import known_timesteps

WEIGHTS = "dit.safetensors"
ACTORS = {0: "actors"}
FRAMES = {0: "frames", 1: "frame_tokens"}
STEP_AXES = {
    **dict.fromkeys(("tokens", "cos_q", "sin_q"), FRAMES),
    **{name: {0: "actors", 1: "frames"} for name in ("audio_local", "audio_global")},
    "actor_mask": {0: "actors", 1: "frames", 2: "frame_tokens"},
    **{name: {1: "keys"} for name in ("cos_k", "sin_k")},
}
"""Axes of `dit_step` that differ between a block and the sink, and while the ring fills."""


def graphs(preset: Preset, weights_dir: Path, *, narrow: bool = False) -> list[Graph]:
    """Graphs with the weights of `weights_dir/dit.safetensors`; `narrow` are linear layers in e4m3,
    of fake tensors.
    """
    dit = DiT(preset.dit)
    if narrow:
        make_fp8(dit.eval().requires_grad_(False))
        check_fits(dit, weights_dir, "dit")
    else:
        load_checkpoint(dit, weights_dir / WEIGHTS)
    return graphs_of(dit, preset)


def graphs_of(dit: DiT, preset: Preset) -> list[Graph]:
    """`audio_tokens` once per block, `dit_text` once per prompt, `dit_sink` before a prefill,
    `dit_embed` and `dit_step` at every denoising step.
    """
    config, audio = preset.pipeline, dit.casual_audio_encoder
    actors = {"audio_local": ACTORS, "audio_global": ACTORS}
    # While the ring fills: were the whole cache seen, keys would be no axis of their own.
    step = examples(step_inputs(config, num_actors=2, num_blocks=1))
    embed, sink = examples(embed_inputs(config)), examples(sink_inputs(config))
    text, outputs = examples(text_inputs(config)), step_outputs(config)
    graph = partial(network_graph, weights_file=WEIGHTS)
    return [
        Graph(
            name="audio_tokens",
            module=audio,
            inputs=examples(audio_inputs(config, num_actors=2)),
            output_names=list(actors),
            dynamic={"audio_features": ACTORS},
            output_axes=actors,
            weights_file=WEIGHTS,
            key_of={name: f"casual_audio_encoder.{name}" for name in audio.state_dict()},
        ),
        graph("dit_text", TextKeysValues(dit), "network", text, text_outputs(config)),
        graph("dit_sink", DiTSink(dit), "dit", sink, ["tokens"]),
        graph("dit_embed", DiTEmbed(dit), "dit", embed, ["tokens"]),
        graph(
            "dit_step",
            DiTStep(dit),
            "dit",
            step,
            outputs,
            dynamic=STEP_AXES,
            output_axes={"velocity": FRAMES},
        ),
    ]


def tables(preset: Preset, weights: Weights) -> dict[str, Tensor]:
    """The time MLP at every step of every schedule, and at the sink's 0.0."""
    with torch.device("meta"):
        dit = DiT(preset.dit)
    timesteps = torch.from_numpy(known_timesteps(preset.pipeline.shift))
    return timestep_tables(load_time_mlp(dit, weights), timesteps)
