"""A text-to-video preset's weights to ONNX: `python -m export.to_onnx --preset rolling-demo …`.

The out folder then holds all that the models of `rolling_forcing` are assembled from: graphs, the
safetensors they point into, `window_timesteps.safetensors`, `rolling.json` and `hashes.json`.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from export.checkpoint.files import Weights, open_weights, read
from export.checkpoint.writer import component_files
from export.graphs import encoders as encoder_graphs
from export.graphs import rolling_vae as rolling_vae_graphs
from export.graphs import wan as wan_graphs
from export.graphs.graph import Graph
from export.graphs.onnx_file import export_graph
from export.graphs.precision import TYPES, in_precision
from export.graphs.weights import in_types, types_of, write_weights
from export.repository.hash_files import write_hashes
from networks.causal_wan import CausalWan, wan_key
from networks.checkpoint import load_checkpoint, save_tensors
from networks.compact_vae import build_vae
from networks.rolling_presets import RollingPreset
from pipeline.config.rules import served_rules

NUM_GRAPHS = {"wan": 4, "vae": 2, "text_encoder": 1}
"""Component (stem of its safetensors) -> its graphs."""


def export_rolling_preset(
    preset: RollingPreset,
    weights_dir: Path,
    out_dir: Path,
    on_graph: Callable[[str], None] = lambda name: None,
    *,
    dtype: str = "fp32",
    components: Sequence[str] = tuple(NUM_GRAPHS),
) -> None:
    """Write the graphs of `components`, with tables for every set of rules they can run.

    `weights_dir` holds safetensors of each component, and the tokenizer's file where the preset
    names one; it may be `out_dir`. Files are replaced only when all are written. `dtype` is a key
    of TYPES. ValueError if weights are missing, don't fit, or would be replaced by rounded ones.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    in_place = weights_dir.resolve() == out_dir.resolve()
    with tempfile.TemporaryDirectory(dir=out_dir.parent) as scratch:
        fresh = Path(scratch)
        preset.stream.save(fresh / wan_graphs.CONFIG)
        save_tensors(
            _tables(preset, open_weights(weights_dir, "wan")), fresh / wan_graphs.TIMESTEPS
        )
        for stem in components:
            stored = open_weights(weights_dir, stem)
            wanted = in_types(stored, TYPES[dtype])
            if not in_place:
                write_weights(wanted, stored, stem, fresh)
            elif types_of(wanted) != types_of(stored):
                raise ValueError(f"{weights_dir}: {stem} is not in {dtype}; export elsewhere")
            folder = weights_dir if in_place else fresh
            for graph in _graphs(preset, stem, folder, TYPES[dtype]):
                export_graph(graph, fresh, folder)
                on_graph(graph.name)
        tokenizer = weights_dir / preset.stream.tokenizer
        if tokenizer.is_file() and not in_place:
            shutil.copyfile(tokenizer, fresh / tokenizer.name)
        names = [path.name for path in fresh.iterdir()]
        for name in names:
            (fresh / name).replace(out_dir / name)
    used = [path for stem in components for path in component_files(out_dir, stem)]
    used += [path for path in [out_dir / tokenizer.name] if path.is_file()]
    write_hashes(out_dir, [*names, *(path.name for path in used)])


def _graphs(preset: RollingPreset, stem: str, weights_dir: Path, dtype: torch.dtype) -> list[Graph]:
    """A component's graphs, of fake tensors, checked against the weights."""
    with FakeTensorMode():
        return [in_precision(graph, dtype) for graph in _float_graphs(preset, stem, weights_dir)]


def _float_graphs(preset: RollingPreset, stem: str, weights_dir: Path) -> list[Graph]:
    path = weights_dir / f"{stem}.safetensors"
    if preset.vae is None or preset.text is None:
        raise ValueError(f"preset {preset.name} has no VAE or no text encoder, a server needs both")
    if stem == "wan":
        # The pass that runs a cache again is for rules that a session may choose.
        config = dataclasses.replace(preset.stream, recache="keep_sink")
        graphs = wan_graphs.graphs_of(wan_graphs.load_wan(preset, path), config)
        return [_under_keys_of(graph, open_weights(weights_dir, stem)) for graph in graphs]
    if stem == "vae":
        vae = load_checkpoint(build_vae(preset.vae), path)
        return rolling_vae_graphs.graphs_of(vae, preset.stream)
    return [encoder_graphs.text_graph_of(preset.text, preset.stream.text_len, weights_dir)]


def _under_keys_of(graph: Graph, weights: Weights) -> Graph:
    """Keys as the file spells them: the release's have a prefix."""
    keys = {wan_key(key): key for key in weights.infos}
    return dataclasses.replace(graph, key_of={n: keys[key] for n, key in graph.key_of.items()})


def _tables(preset: RollingPreset, weights: Weights) -> dict[str, torch.Tensor]:
    """`timestep_tables` of every set of rules under one roof, each timestep once."""
    with torch.device("meta"):
        wan = CausalWan(preset.wan)
    time = ("time_embedding.", "time_projection.")
    keys = {wan_key(key): key for key in weights.infos}
    wanted = [key for key in wan.state_dict() if key.startswith(time)]
    if missing := sorted(set(wanted) - set(keys)):
        raise ValueError(f"wan.safetensors lacks {', '.join(missing)}")
    wan.load_state_dict(
        {key: read(weights, keys[key]).float() for key in wanted}, strict=False, assign=True
    )
    parts = [wan_graphs.timestep_tables(wan, c) for c in served_rules(preset.stream).values()]
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    times = joined["timesteps"].tolist()
    first = [times.index(time) for time in sorted(set(times))]
    return {name: rows[first].contiguous() for name, rows in joined.items()}
