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
from networks.dit import DiT, DiTPrefill, DiTStep
from networks.graph_inputs import (
    audio_inputs,
    prefill_inputs,
    present_outputs,
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
    """`audio_tokens` once per block, `dit_text` once per prompt, `dit_prefill`, `dit_step`."""
    config, audio = preset.pipeline, dit.casual_audio_encoder
    actors = {"audio_local": ACTORS, "audio_global": ACTORS}
    step, filled = examples(step_inputs(config, num_actors=2)), examples(prefill_inputs(config))
    text, speakers = examples(text_inputs(config)), {**actors, "actor_mask": ACTORS}
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
        graph("dit_step", DiTStep(dit), "dit", step, step_outputs(config), dynamic=speakers),
        graph("dit_prefill", DiTPrefill(dit), "dit", filled, present_outputs(config)),
    ]


def tables(preset: Preset, weights: Weights) -> dict[str, Tensor]:
    """The time MLP at every step of every schedule, and at the sink's 0.0."""
    with torch.device("meta"):
        dit = DiT(preset.dit)
    timesteps = torch.from_numpy(known_timesteps(preset.pipeline.shift))
    return timestep_tables(load_time_mlp(dit, weights), timesteps)
