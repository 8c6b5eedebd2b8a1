"""The graphs of the avatar's DiT, and the timesteps that a server may need of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from export.checkpoint.files import Weights
from export.checkpoint.fit import check_fits
from export.graphs.fp8 import make_fp8
from export.graphs.graph import Graph, examples, keys_under
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
    config, graph = preset.pipeline, partial(Graph, weights_file=WEIGHTS)
    audio, text = dit.casual_audio_encoder, TextKeysValues(dit)
    step, prefill = DiTStep(dit), DiTPrefill(dit)
    return [
        graph(
            name="audio_tokens",
            module=audio,
            inputs=examples(audio_inputs(config, num_actors=2)),
            output_names=["audio_local", "audio_global"],
            dynamic={"audio_features": ACTORS},
            output_axes={"audio_local": ACTORS, "audio_global": ACTORS},
            key_of={name: f"casual_audio_encoder.{name}" for name in audio.state_dict()},
        ),
        graph(
            name="dit_text",
            module=text,
            inputs=examples(text_inputs(config)),
            output_names=text_outputs(config),
            key_of=keys_under(text, "network"),
        ),
        graph(
            name="dit_step",
            module=step,
            inputs=examples(step_inputs(config, num_actors=2)),
            output_names=step_outputs(config),
            dynamic={"audio_local": ACTORS, "audio_global": ACTORS, "actor_mask": ACTORS},
            key_of=keys_under(step, "dit"),
        ),
        graph(
            name="dit_prefill",
            module=prefill,
            inputs=examples(prefill_inputs(config)),
            output_names=present_outputs(config),
            key_of=keys_under(prefill, "dit"),
        ),
    ]


def tables(preset: Preset, weights: Weights) -> dict[str, Tensor]:
    """The time MLP at every step of every schedule, and at the sink's 0.0."""
    with torch.device("meta"):
        dit = DiT(preset.dit)
    timesteps = torch.from_numpy(known_timesteps(preset.pipeline.shift))
    return timestep_tables(load_time_mlp(dit, weights), timesteps)
