"""Weights to a folder of ONNX graphs: `python -m export.to_onnx --preset demo --weights A --out B`.

The out folder then holds all that a model repository is assembled from: the graphs, the safetensors
they point into, `timesteps.safetensors`, `pipeline.json` and `hashes.json`. No network is loaded:
it is traced with fake tensors, and weights whose element type already fits are not copied where A
is B.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch._subclasses.fake_tensor import FakeTensorMode

from export.checkpoint.cli import failing_in_words
from export.checkpoint.files import SafetensorsWeights, open_weights
from export.checkpoint.fit import check_fits
from export.checkpoint.writer import component_files
from export.graphs import dit as dit_graphs
from export.graphs import encoders as encoder_graphs
from export.graphs import vae as vae_graphs
from export.graphs.fp8 import fp8_layers, make_fp8
from export.graphs.graph import Graph
from export.graphs.onnx_file import export_graph
from export.graphs.precision import TYPES, in_precision
from export.graphs.rolling import export_rolling_preset
from export.graphs.time_mlp import load_time_mlp
from export.graphs.weights import in_types, types_of, write_weights
from export.preset_options import SIZE_HELP, STEPS_HELP, preset_named
from export.repository.hash_files import write_hashes
from networks.checkpoint import save_tensors
from networks.dit import DiT
from networks.presets import PRESETS, Preset
from networks.rolling_presets import ROLLING_PRESETS

__all__ = ["export_graph", "export_preset"]

COMPONENTS: dict[str, Callable[[Preset, Path], list[Graph]]] = {
    "dit": dit_graphs.graphs,
    "vae": vae_graphs.graphs,
    "audio_encoder": lambda preset, weights: [encoder_graphs.audio_graph(preset, weights)],
    "text_encoder": lambda preset, weights: [encoder_graphs.text_graph(preset, weights)],
}
"""Name of a component's safetensors -> its graphs."""


def export_preset(
    preset: Preset,
    weights_dir: Path,
    out_dir: Path,
    on_graph: Callable[[str], None] = lambda name: None,
    *,
    dtype: str = "fp32",
    fp8: bool = False,
    components: Sequence[str] = tuple(COMPONENTS),
) -> None:
    """Write the graphs of `components` to `out_dir`; `on_graph` hears each graph's name when done.

    `weights_dir` holds safetensors of each component, in one file or in shards. It may be `out_dir`
    itself: the weights then stay where they are. Files are replaced only when all are written: a
    repository may hold hard links to the old ones. `dtype` is a key of TYPES; `fp8` makes the DiT's
    linear layers 8 bits wide. ValueError if weights do not fit, or would be replaced by rounded
    ones.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out_dir.parent) as fresh:
        run = _Export(
            preset=preset,
            weights_dir=weights_dir,
            out_dir=out_dir,
            fresh=Path(fresh),
            dtype=dtype,
            fp8=fp8,
        )
        preset.pipeline.save(run.fresh / "pipeline.json")
        for stem in components:
            for graph, folder in run.graphs(stem):
                export_graph(graph, run.fresh, folder)
                on_graph(graph.name)
        run.install(components)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Export:
    """From where to where, in which types; `fresh` holds what is written until all is."""

    preset: Preset
    weights_dir: Path
    out_dir: Path
    fresh: Path
    dtype: str
    fp8: bool

    @property
    def in_place(self) -> bool:
        return self.weights_dir.resolve() == self.out_dir.resolve()

    def graphs(self, stem: str) -> list[tuple[Graph, Path]]:
        """A component's graphs of fake tensors, with the folder where their weights now lie."""
        weights = open_weights(self.weights_dir, stem)
        if stem == "dit":
            time_mlp = load_time_mlp(self.preset, weights)
            tables = dit_graphs.timestep_tables(time_mlp, self.preset.pipeline.shift)
            save_tensors(tables, self.fresh / "timesteps.safetensors")
        layers = _fp8_layers(self.preset) if self.fp8 and stem == "dit" else []
        folder = self._place(stem, weights, layers)
        with FakeTensorMode():
            if layers:
                dit = DiT(self.preset.dit).eval().requires_grad_(False)
                make_fp8(dit)
                check_fits(dit, folder, stem)
                graphs = dit_graphs.graphs_of(dit, self.preset)
            else:
                graphs = COMPONENTS[stem](self.preset, folder)
            return [(in_precision(graph, TYPES[self.dtype]), folder) for graph in graphs]

    def _place(self, stem: str, stored: SafetensorsWeights, layers: Sequence[str]) -> Path:
        """Have a component's weights in the wanted types in the folder that is returned."""
        wanted = in_types(stored, TYPES[self.dtype], layers)
        if not self.in_place:
            write_weights(wanted, stored, stem, self.fresh)
            return self.fresh
        if types_of(wanted) != types_of(stored):
            raise ValueError(
                f"{self.weights_dir}: {stem} would be replaced by a copy in "
                f"{'fp8' if layers else self.dtype}; export to another folder"
            )
        return self.weights_dir

    def install(self, components: Sequence[str]) -> None:
        """Move all files to their place and remove what an earlier export in other shards left."""
        tokenizer = self.weights_dir / self.preset.pipeline.tokenizer
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


def _fp8_layers(preset: Preset) -> list[str]:
    with torch.device("meta"):
        return fp8_layers(DiT(preset.dit))


@failing_in_words
def main(
    preset: Annotated[
        str, typer.Option(help="which sizes: " + ", ".join(sorted({**PRESETS, **ROLLING_PRESETS})))
    ],
    weights: Annotated[Path, typer.Option(help="folder with the components' safetensors")],
    out: Annotated[Path, typer.Option(help="folder to be written; may be that of the weights")],
    dtype: Annotated[str, typer.Option(help="element type: " + ", ".join(TYPES))] = "fp32",
    precision: Annotated[str, typer.Option(help="of the DiT's linear layers: dtype, fp8")] = (
        "dtype"
    ),
    component: Annotated[
        list[str] | None,
        typer.Option(help="one of " + ", ".join(COMPONENTS) + "; all if not given"),
    ] = None,
    size: Annotated[str | None, typer.Option(help=SIZE_HELP)] = None,
    num_steps: Annotated[int | None, typer.Option(help=STEPS_HELP)] = None,
) -> None:
    """Export the graphs of a preset."""
    _check_choices("dtype", [dtype], TYPES)
    if preset in ROLLING_PRESETS:
        if component or size or num_steps or precision != "dtype":
            raise typer.BadParameter(
                f"preset {preset} is exported whole and as it is, its layers in --dtype"
            )
        export_rolling_preset(ROLLING_PRESETS[preset], weights, out, typer.echo, dtype=dtype)
        return
    chosen = component or list(COMPONENTS)
    _check_choices("precision", [precision], ("dtype", "fp8"))
    _check_choices("component", chosen, COMPONENTS)
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("exporting", total=sum(NUM_GRAPHS[name] for name in chosen))
        export_preset(
            preset_named(preset, size, num_steps),
            weights,
            out,
            lambda name: progress.update(task, advance=1, description=name),
            dtype=dtype,
            fp8=precision == "fp8",
            components=chosen,
        )
    num_bytes = sum(path.stat().st_size for path in out.iterdir() if path.is_file())
    typer.echo(f"{out}: {len(list(out.glob('*.onnx')))} graphs, {num_bytes / 1e6:.1f} MB")


def _check_choices(option: str, given: Iterable[str], known: Iterable[str]) -> None:
    for name in given:
        if name not in known:
            raise typer.BadParameter(f"no {option} {name!r}, there are {', '.join(known)}")


NUM_GRAPHS = {"dit": 4, "vae": 3, "audio_encoder": 1, "text_encoder": 1}
"""Graphs of each component, for the progress display."""

if __name__ == "__main__":
    typer.run(main)
