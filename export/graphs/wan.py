"""The graphs of a text-to-video stream: the window, the clean pass, a prompt's K/V.

One `dit_window` serves every window: the number of its frames and of the cached blocks it sees are
dynamic axes, because each of the few pairs that occur then attends to exactly its keys, without a
mask (at 1.3B a mask would be 23 400 x 32 760). An engine gives each pair a profile.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from export.graphs.graph import Graph, keys_under
from networks.causal_wan import CausalWan, wan_key
from networks.checkpoint import load_checkpoint, save_checkpoint, save_tensors
from networks.graph_inputs import (
    clean_inputs,
    dtype_of,
    present_outputs,
    text_inputs,
    text_outputs,
    window_inputs,
)
from networks.rolling_presets import RollingPreset
from networks.transformer import TextKeysValues
from networks.wan_stream import WanClean, WanWindow
from pipeline.config.rolling import RollingConfig
from pipeline.denoising.schedule import NoiseTable

WEIGHTS = "wan.safetensors"
TIMESTEPS = "window_timesteps.safetensors"
CONFIG = "rolling.json"
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


def export_inputs(preset: RollingPreset, wan: CausalWan, out_dir: Path) -> list[Graph]:
    """Write what the graphs need beside them (weights, timesteps, rolling.json); return them."""
    out_dir.mkdir(parents=True, exist_ok=True)
    preset.stream.save(out_dir / CONFIG)
    save_checkpoint(wan, out_dir / WEIGHTS)
    save_tensors(timestep_tables(wan, preset.stream), out_dir / TIMESTEPS)
    return graphs_of(wan, preset.stream)


def graphs_of(wan: CausalWan, config: RollingConfig) -> list[Graph]:
    """`dit_window`, `dit_clean`, `dit_text`, and `dit_recache` where the stream uses it."""
    graphs = [_window(wan, config), _clean(wan, config), _text(wan, config)]
    return graphs + ([_recache(wan, config)] if config.recache != "none" else [])


def timestep_tables(wan: CausalWan, config: RollingConfig) -> dict[str, Tensor]:
    """`timesteps` [levels + 1], `modulation` [levels + 1, 6, D], `head_modulation` [levels + 1, D]:
    the levels in their order and then the clean pass's.
    """
    levels = NoiseTable(config.shift).shifted(config.denoising_steps)
    timesteps = torch.tensor([*levels.tolist(), config.context_timestep])
    with torch.inference_mode():
        modulation, head_modulation = wan.modulations(timesteps)
    return {
        "timesteps": timesteps,
        "modulation": modulation.contiguous(),
        "head_modulation": head_modulation.contiguous(),
    }


_HISTORY: dict[str, Mapping[int, str]] = {
    name: {0: "history"} for name in ("cos_history", "sin_history", "slots")
}
_FRAMES: dict[str, Mapping[int, str]] = {
    "latent": {2: "frames"},
    **{name: {0: "frames"} for name in ("modulation", "cos", "sin")},
}


def _window(wan: CausalWan, config: RollingConfig) -> Graph:
    module = WanWindow(wan, config.frames_per_block)
    return Graph(
        name="dit_window",
        module=module,
        inputs=_examples(wan, window_inputs(config, num_blocks=2, num_history=3)),
        output_names=["velocity"],
        dynamic={**_FRAMES, "head_modulation": {0: "frames"}, **_HISTORY},
        output_axes={"velocity": {2: "frames"}},
        weights_file=WEIGHTS,
        key_of=keys_under(module, "wan"),
    )


def _clean(wan: CausalWan, config: RollingConfig) -> Graph:
    module = WanClean(wan, config.frames_per_block)
    return Graph(
        name="dit_clean",
        module=module,
        inputs=_examples(wan, clean_inputs(config, num_history=3)),
        output_names=present_outputs(config),
        dynamic=_HISTORY,
        weights_file=WEIGHTS,
        key_of=keys_under(module, "wan"),
    )


def _recache(wan: CausalWan, config: RollingConfig) -> Graph:
    module = WanClean(wan, config.frames_per_block)
    shapes = clean_inputs(config, num_history=3, num_blocks=4, num_stored=2)
    return Graph(
        name="dit_recache",
        module=module,
        inputs=_examples(wan, shapes),
        output_names=present_outputs(config),
        dynamic={**_FRAMES, **_HISTORY, "stored": {0: "stored_blocks"}},
        weights_file=WEIGHTS,
        key_of=keys_under(module, "wan"),
    )


def _text(wan: CausalWan, config: RollingConfig) -> Graph:
    module = TextKeysValues(wan)
    return Graph(
        name="dit_text",
        module=module,
        inputs=_examples(wan, text_inputs(config)),
        output_names=text_outputs(config),
        weights_file=WEIGHTS,
        key_of=keys_under(module, "network"),
    )


def _examples(wan: CausalWan, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    floating = wan.patch_embedding.weight.dtype
    return {
        name: torch.zeros(shape, dtype=dtype_of(name, floating)) for name, shape in shapes.items()
    }
