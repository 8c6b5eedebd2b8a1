"""The DiT's four graphs and the modulation vectors of its timesteps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from export.graphs.graph import Graph, keys_under
from networks.checkpoint import load_checkpoint
from networks.dit import DiT, DiTPrefill, DiTStep
from networks.graph_inputs import (
    audio_inputs,
    dtype_of,
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


def load_dit(preset: Preset, weights_dir: Path) -> DiT:
    return load_checkpoint(DiT(preset.dit), weights_dir / WEIGHTS)


def graphs(preset: Preset, weights_dir: Path) -> list[Graph]:
    """Graphs with the weights of `weights_dir/dit.safetensors`."""
    return graphs_of(load_dit(preset, weights_dir), preset)


def graphs_of(dit: DiT, preset: Preset) -> list[Graph]:
    """`audio_tokens` once per block, `dit_text` once per prompt, `dit_prefill`, `dit_step`."""
    config = preset.pipeline
    audio, text = dit.casual_audio_encoder, TextKeysValues(dit)
    step, prefill = DiTStep(dit), DiTPrefill(dit)
    return [
        Graph(
            name="audio_tokens",
            module=audio,
            inputs=_examples(audio_inputs(config, num_actors=2)),
            output_names=["audio_local", "audio_global"],
            dynamic={"audio_features": ACTORS},
            output_axes={"audio_local": ACTORS, "audio_global": ACTORS},
            weights_file=WEIGHTS,
            key_of={name: f"casual_audio_encoder.{name}" for name in audio.state_dict()},
        ),
        Graph(
            name="dit_text",
            module=text,
            inputs=_examples(text_inputs(config)),
            output_names=text_outputs(config),
            weights_file=WEIGHTS,
            key_of=keys_under(text, "network"),
        ),
        Graph(
            name="dit_step",
            module=step,
            inputs=_examples(step_inputs(config, num_actors=2)),
            output_names=step_outputs(config),
            dynamic={"audio_local": ACTORS, "audio_global": ACTORS, "actor_mask": ACTORS},
            weights_file=WEIGHTS,
            key_of=keys_under(step, "dit"),
        ),
        Graph(
            name="dit_prefill",
            module=prefill,
            inputs=_examples(prefill_inputs(config)),
            output_names=present_outputs(config),
            weights_file=WEIGHTS,
            key_of=keys_under(prefill, "dit"),
        ),
    ]


def _examples(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: torch.zeros(shape, dtype=dtype_of(name)) for name, shape in shapes.items()}


def timestep_tables(dit: DiT, shift: float) -> dict[str, Tensor]:
    """What a stage needs of the time MLP: `timesteps` [T] with `modulation` [T, 6, D] and
    `head_modulation` [T, D], for every step of every schedule and for the sink's 0.0.
    """
    timesteps = torch.from_numpy(known_timesteps(shift))
    with torch.inference_mode():
        modulation, head_modulation = dit.modulations(timesteps)
    return {
        "timesteps": timesteps,
        "modulation": modulation.contiguous(),
        "head_modulation": head_modulation.contiguous(),
    }
