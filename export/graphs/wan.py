"""The graphs of a text-to-video stream: the window, the clean pass, a prompt's K/V.

One `dit_window` serves every window: the number of its frames and of the cached blocks it sees are
dynamic axes, because each of the few pairs that occur then attends to exactly its keys, without a
mask (at 1.3B a mask would be 23 400 x 32 760). An engine gives each pair a profile.
"""

import dataclasses
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from export.checkpoint.files import Weights, open_weights
from export.checkpoint.fit import renamed
from export.graphs.graph import Graph, examples, network_graph
from export.graphs.time_mlp import load_time_mlp, timestep_tables
from networks.causal_wan import CausalWan, wan_key
from networks.checkpoint import load_checkpoint
from networks.graph_inputs import (
    clean_inputs,
    present_outputs,
    text_inputs,
    text_outputs,
    window_inputs,
)
from networks.rolling_presets import RollingPreset
from networks.transformer import TextKeysValues
from networks.wan_stream import WanClean, WanWindow
from pipeline.config.rolling import RollingConfig
from pipeline.config.rules import served_rules
from pipeline.denoising.schedule import NoiseTable

WEIGHTS = "wan.safetensors"
ACADEMIC = ("rolling-1.3b",)
"""Presets whose released weights are licensed for academic use only."""

logger = logging.getLogger(__name__)


def load_wan(preset: RollingPreset, path: Path) -> CausalWan:
    """The transformer from a safetensors file (or folder of shards) in the release's keys, with or
    without their prefix.
    """
    if preset.name in ACADEMIC:
        logger.warning(
            "%s: the released Rolling Forcing weights are licensed for academic use only", path
        )
    return load_checkpoint(CausalWan(preset.wan), path, rename=wan_key)


def graphs(preset: RollingPreset, weights_dir: Path) -> list[Graph]:
    """The graphs of a server, with the weights of `weights_dir/wan.safetensors`."""
    # The pass that runs a cache again is for rules that a session may choose.
    config = dataclasses.replace(preset.stream, recache="keep_sink")
    keys = renamed(open_weights(weights_dir, "wan").infos, wan_key)
    return [
        # As the file spells them: the release's keys have a prefix.
        dataclasses.replace(graph, key_of={n: keys[key] for n, key in graph.key_of.items()})
        for graph in graphs_of(load_wan(preset, weights_dir / WEIGHTS), config)
    ]


_HISTORY: dict[str, Mapping[int, str]] = {
    name: {0: "history"} for name in ("cos_history", "sin_history", "slots")
}
_FRAMES: dict[str, Mapping[int, str]] = {
    "latent": {2: "frames"},
    **{name: {0: "frames"} for name in ("modulation", "cos", "sin")},
}


def graphs_of(wan: CausalWan, config: RollingConfig) -> list[Graph]:
    """`dit_window`, `dit_clean`, `dit_text`, and `dit_recache` where the stream uses it."""
    window = examples(window_inputs(config, num_blocks=2, num_history=3))
    clean = examples(clean_inputs(config, num_history=3))
    again = examples(clean_inputs(config, num_history=3, num_blocks=4, num_stored=2))
    stored, text = present_outputs(config), examples(text_inputs(config))
    frames, graph = config.frames_per_block, partial(network_graph, weights_file=WEIGHTS)
    graphs = [
        graph(
            "dit_window",
            WanWindow(wan, frames),
            "wan",
            window,
            ["velocity"],
            dynamic={**_FRAMES, "head_modulation": {0: "frames"}, **_HISTORY},
            output_axes={"velocity": {2: "frames"}},
        ),
        graph("dit_clean", WanClean(wan, frames), "wan", clean, stored, dynamic=_HISTORY),
        graph("dit_text", TextKeysValues(wan), "network", text, text_outputs(config)),
    ]
    if config.recache == "none":
        return graphs
    axes = {**_FRAMES, **_HISTORY, "stored": {0: "stored_blocks"}}
    recache = graph("dit_recache", WanClean(wan, frames), "wan", again, stored, dynamic=axes)
    return [*graphs, recache]


def timesteps_of(config: RollingConfig) -> Tensor:
    """[levels + 1]: the levels in their order, then the clean pass's."""
    levels = NoiseTable(config.shift).shifted(config.denoising_steps)
    return torch.tensor([*levels.tolist(), config.context_timestep])


def tables(preset: RollingPreset, weights: Weights) -> dict[str, Tensor]:
    """The time MLP at the timesteps of every set of rules that the graphs can run, each once."""
    with torch.device("meta"):
        wan = CausalWan(preset.wan)
    found = [timesteps_of(rules) for rules in served_rules(preset.stream).values()]
    timesteps = torch.unique(torch.cat(found), sorted=True)
    return timestep_tables(load_time_mlp(wan, weights, wan_key), timesteps)
