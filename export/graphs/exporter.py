"""A preset's weights to a folder of ONNX graphs, for both systems.

No network is loaded: it is traced with fake tensors.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from export.checkpoint.files import SafetensorsWeights, Weights, open_weights
from export.checkpoint.fit import check_fits
from export.checkpoint.writer import component_files
from export.graphs import dit as dit_graphs
from export.graphs import vae as vae_graphs
from export.graphs import wan as wan_graphs
from export.graphs.encoders import audio_graph, text_graph, text_graph_of
from export.graphs.fp8 import fp8_layers, make_fp8
from export.graphs.graph import Graph
from export.graphs.onnx_file import export_graph
from export.graphs.precision import PRECISIONS, Precision, in_precision
from export.graphs.time_mlp import load_time_mlp, timestep_tables
from export.graphs.weights import in_types, types_of, write_weights
from export.presets import AnyPreset
from export.repository.catalogue import AVATAR, ROLLING
from export.repository.hash_files import write_hashes
from networks.causal_wan import CausalWan, wan_key
from networks.checkpoint import load_checkpoint, save_tensors
from networks.compact_vae import build_vae
from networks.dit import DiT
from networks.presets import Preset
from networks.rolling_presets import RollingPreset
from pipeline.config.avatar import PipelineConfig
from pipeline.config.rolling import RollingConfig

Graphs = Callable[[Path], list[Graph]]
"""The folder of a component's weights -> its graphs, of fake tensors in a FakeTensorMode."""
TRANSFORMERS = ("dit", "wan")


def components_of(preset: AnyPreset) -> dict[str, Graphs]:
    """Component (stem of its safetensors) -> its graphs.

    ValueError if a text-to-video preset lacks a network that a server needs.
    """
    if isinstance(preset, Preset):
        return {
            "dit": lambda folder: dit_graphs.graphs(preset, folder),
            "vae": lambda folder: vae_graphs.graphs(preset, folder),
            "audio_encoder": lambda folder: [audio_graph(preset, folder)],
            "text_encoder": lambda folder: [text_graph(preset, folder)],
        }
    vae, text, stream = preset.vae, preset.text, preset.stream
    if vae is None or text is None:
        raise ValueError(f"preset {preset.name} has no VAE or no text encoder, a server needs both")
    return {
        "wan": lambda folder: wan_graphs.graphs(preset, folder),
        "vae": lambda folder: vae_graphs.rolling_graphs_of(
            load_checkpoint(build_vae(vae), folder / vae_graphs.WEIGHTS), stream
        ),
        "text_encoder": lambda folder: [text_graph_of(text, stream.text_len, folder)],
    }


def export_preset(
    preset: AnyPreset,
    weights_dir: Path,
    out_dir: Path,
    on_graph: Callable[[str], None] = lambda name: None,
    *,
    dtype: str = "fp32",
    components: Sequence[str] | None = None,
) -> None:
    """Write the graphs of `components`, None: of all, to `out_dir`.

    `on_graph` hears each graph's name when it is done. `weights_dir` holds safetensors of each
    component, in one file or in shards, and the tokenizer's file where the preset names one. It may
    be `out_dir` itself: the weights then stay where they are. Files are replaced only when all are
    written: a repository may hold hard links to the old ones. `dtype` is a key of PRECISIONS.
    ValueError if weights are missing, do not fit, or would be replaced by rounded ones.
    """
    chosen = list(components_of(preset)) if components is None else list(components)
    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out_dir.parent) as fresh:
        run = _Export(
            preset=preset,
            weights_dir=weights_dir,
            out_dir=out_dir,
            fresh=Path(fresh),
            dtype=dtype,
            precision=PRECISIONS[dtype],
        )
        run.config.save(run.fresh / run.config_file)
        for stem in chosen:
            for graph, folder in run.graphs(stem):
                export_graph(graph, run.fresh, folder)
                on_graph(graph.name)
        run.install(chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Export:
    """From where to where, in which types; `fresh` holds what is written until all is."""

    preset: AnyPreset
    weights_dir: Path
    out_dir: Path
    fresh: Path
    dtype: str
    precision: Precision

    @property
    def in_place(self) -> bool:
        return self.weights_dir.resolve() == self.out_dir.resolve()

    @property
    def config(self) -> PipelineConfig | RollingConfig:
        is_avatar = isinstance(self.preset, Preset)
        return self.preset.pipeline if is_avatar else self.preset.stream

    @property
    def config_file(self) -> str:
        return (AVATAR if isinstance(self.preset, Preset) else ROLLING).config

    def graphs(self, stem: str) -> list[tuple[Graph, Path]]:
        """A component's graphs of fake tensors, with the folder where their weights now lie."""
        stored = open_weights(self.weights_dir, stem)
        if stem in TRANSFORMERS:
            file, tables = timesteps(self.preset, stored)
            save_tensors(tables, self.fresh / file)
        layers = self._narrow_layers(stem)
        folder = self._place(stem, stored, layers)
        with FakeTensorMode():
            graphs = (
                _narrow_graphs(self.preset, folder)
                if layers
                else components_of(self.preset)[stem](folder)
            )
            return [(in_precision(graph, self.precision.dtype), folder) for graph in graphs]

    def _narrow_layers(self, stem: str) -> list[str]:
        if not (self.precision.narrow and stem in TRANSFORMERS):
            return []
        if not isinstance(self.preset, Preset):
            raise ValueError(f"preset {self.preset.name} has no graphs in {self.dtype}")
        with torch.device("meta"):
            return fp8_layers(DiT(self.preset.dit))

    def _place(self, stem: str, stored: SafetensorsWeights, layers: Sequence[str]) -> Path:
        """Have a component's weights in the wanted types in the folder that is returned."""
        wanted = in_types(stored, self.precision.dtype, layers)
        if not self.in_place:
            write_weights(wanted, stored, stem, self.fresh)
            return self.fresh
        if types_of(wanted) != types_of(stored):
            raise ValueError(
                f"{self.weights_dir}: {stem} is not in {self.dtype}; export elsewhere, or the "
                "weights would be replaced by a copy"
            )
        return self.weights_dir

    def install(self, components: Sequence[str]) -> None:
        """Move all files to their place and remove what an earlier export in other shards left."""
        tokenizer = self.weights_dir / self.config.tokenizer
        if tokenizer.is_file() and not self.in_place:
            shutil.copyfile(tokenizer, self.fresh / tokenizer.name)
        names = [path.name for path in self.fresh.iterdir()]
        for name in names:
            (self.fresh / name).replace(self.out_dir / name)
        stale = [] if self.in_place else components
        for path in (path for stem in stale for path in component_files(self.out_dir, stem)):
            if path.name not in names:
                path.unlink()
        used = [path for stem in components for path in component_files(self.out_dir, stem)]
        used += [path for path in [self.out_dir / tokenizer.name] if path.is_file()]
        write_hashes(self.out_dir, [*names, *(path.name for path in used)])


def timesteps(preset: AnyPreset, weights: Weights) -> tuple[str, dict[str, Tensor]]:
    """The file of a transformer's timestep tables, and what belongs into it."""
    with torch.device("meta"):
        network = DiT(preset.dit) if isinstance(preset, Preset) else CausalWan(preset.wan)
    if isinstance(preset, RollingPreset):
        times = wan_graphs.served_timesteps(preset)
        return wan_graphs.TIMESTEPS, timestep_tables(
            load_time_mlp(network, weights, wan_key), times
        )
    times = dit_graphs.served_timesteps(preset)
    return dit_graphs.TIMESTEPS, timestep_tables(load_time_mlp(network, weights), times)


def _narrow_graphs(preset: AnyPreset, folder: Path) -> list[Graph]:
    """The DiT's graphs with linear layers in e4m3, checked against the weights in `folder`."""
    assert isinstance(preset, Preset)
    dit = DiT(preset.dit).eval().requires_grad_(False)
    make_fp8(dit)
    check_fits(dit, folder, "dit")
    return dit_graphs.graphs_of(dit, preset)
