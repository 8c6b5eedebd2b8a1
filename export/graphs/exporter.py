"""A preset's weights to a folder of ONNX graphs, for both systems.

No network is loaded: it is traced with fake tensors.
"""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from export.checkpoint.files import SafetensorsWeights, open_weights
from export.checkpoint.writer import component_files
from export.graphs import dit as dit_graphs
from export.graphs import vae as vae_graphs
from export.graphs import wan as wan_graphs
from export.graphs.encoders import audio_graph, text_graph, text_graph_of
from export.graphs.fp8 import fp8_layers
from export.graphs.graph import Graph
from export.graphs.onnx_file import export_graph
from export.graphs.precision import PRECISIONS, Precision, in_precision
from export.graphs.weights import in_types, types_of, write_weights
from export.presets import AnyPreset, builders, config_of
from export.repository.catalogue import AVATAR, ROLLING, System
from export.repository.hash_files import write_hashes
from networks.checkpoint import save_tensors
from networks.presets import Preset
from networks.rolling_presets import RollingPreset

Graphs = Callable[[Path], list[Graph]]
"""The folder of a component's weights -> its graphs, of fake tensors in a FakeTensorMode."""


def components_of(preset: AnyPreset, *, narrow: bool = False) -> dict[str, Graphs]:
    """Component (stem of its safetensors) -> its graphs; `narrow` are linear layers in e4m3.

    ValueError if a text-to-video preset lacks a network that a server needs.
    """
    if isinstance(preset, Preset):
        return {
            "dit": lambda folder: dit_graphs.graphs(preset, folder, narrow=narrow),
            "vae": lambda folder: vae_graphs.graphs(preset, folder),
            "audio_encoder": lambda folder: [audio_graph(preset, folder)],
            "text_encoder": lambda folder: [text_graph(preset, folder)],
        }
    vae, text, stream = preset.vae, preset.text, preset.stream
    if vae is None or text is None:
        raise ValueError(f"preset {preset.name} has no VAE or no text encoder, a server needs both")
    if narrow:
        raise ValueError(f"preset {preset.name} has no graphs in fp8")
    return {
        "wan": lambda folder: wan_graphs.graphs(preset, folder),
        "vae": lambda folder: vae_graphs.rolling_graphs(vae, stream, folder),
        "text_encoder": lambda folder: [text_graph_of(text, stream.text_len, folder)],
    }


def export_preset(
    preset: AnyPreset,
    weights_dir: Path,
    out_dir: Path,
    on_graph: Callable[[str], None] = lambda _: None,
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
        config_of(preset).save(run.fresh / run.system.config)
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
    def system(self) -> System:
        return ROLLING if isinstance(self.preset, RollingPreset) else AVATAR

    @property
    def in_place(self) -> bool:
        return self.weights_dir.resolve() == self.out_dir.resolve()

    def graphs(self, stem: str) -> list[tuple[Graph, Path]]:
        """A component's graphs of fake tensors, with the folder where their weights now lie."""
        stored = open_weights(self.weights_dir, stem)
        if stem == self.system.denoiser.weights:
            tables = (
                wan_graphs.tables(self.preset, stored)
                if isinstance(self.preset, RollingPreset)
                else dit_graphs.tables(self.preset, stored)
            )
            save_tensors(tables, self.fresh / self.system.denoiser.table)
        folder = self._place(stem, stored)
        graphs = components_of(self.preset, narrow=self.precision.narrow)[stem]
        with FakeTensorMode():
            return [(in_precision(graph, self.precision.dtype), folder) for graph in graphs(folder)]

    def _place(self, stem: str, stored: SafetensorsWeights) -> Path:
        """Have a component's weights in the wanted types in the folder that is returned."""
        layers: list[str] = []
        if self.precision.narrow and stem == "dit":
            with torch.device("meta"):
                layers = fp8_layers(builders(self.preset)[stem]())
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
        tokenizer = self.weights_dir / config_of(self.preset).tokenizer
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
