"""Weights to a folder of ONNX graphs: `python -m export.to_onnx --preset demo --weights A --out B`.

The out folder then holds all that a model repository is assembled from: the graphs, the safetensors
they point into, `timesteps.safetensors` and `pipeline.json`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from export import dit_graphs, encoder_graphs, vae_graphs
from export.graph import Graph
from export.onnx_file import export_graph
from networks.checkpoint import save_tensors
from networks.presets import PRESETS, Preset

__all__ = ["export_graph", "export_preset"]

SOURCES: tuple[Callable[[Preset, Path], list[Graph]], ...] = (
    dit_graphs.graphs,
    vae_graphs.graphs,
    encoder_graphs.graphs,
)


def export_preset(
    preset: Preset,
    weights_dir: Path,
    out_dir: Path,
    on_graph: Callable[[str], None] = lambda name: None,
) -> None:
    """Write everything of `preset` into `out_dir`; `on_graph` hears each graph's name when done.

    `weights_dir` holds one safetensors file per component. It may be `out_dir` itself. Files are
    replaced only when all are written: a repository may hold hard links to the old ones.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out_dir.parent) as name:
        fresh = Path(name)
        _export_all(preset, weights_dir, fresh, on_graph)
        for path in fresh.iterdir():
            path.replace(out_dir / path.name)


def _export_all(
    preset: Preset, weights_dir: Path, out_dir: Path, on_graph: Callable[[str], None]
) -> None:
    preset.pipeline.save(out_dir / "pipeline.json")
    dit = dit_graphs.load_dit(preset, weights_dir)
    tables = dit_graphs.timestep_tables(dit, preset.pipeline.shift)
    save_tensors(tables, out_dir / "timesteps.safetensors")
    del dit
    for source in SOURCES:
        for graph in source(preset, weights_dir):
            # A copy, not a link: runtimes refuse external data behind a symbolic link.
            target = out_dir / graph.weights_file
            if graph.weights_file and not target.exists():
                shutil.copyfile(weights_dir / graph.weights_file, target)
            export_graph(graph, out_dir)
            on_graph(graph.name)


def preset_named(name: str) -> Preset:
    if name not in PRESETS:
        raise typer.BadParameter(f"no preset {name!r}, there are {', '.join(sorted(PRESETS))}")
    return PRESETS[name]


def main(
    preset: Annotated[str, typer.Option(help="which sizes: " + ", ".join(sorted(PRESETS)))],
    weights: Annotated[Path, typer.Option(help="folder with dit.safetensors and the others")],
    out: Annotated[Path, typer.Option(help="folder to be written")],
) -> None:
    """Export all graphs of a preset."""
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("exporting", total=NUM_GRAPHS)
        export_preset(
            preset_named(preset),
            weights,
            out,
            lambda name: progress.update(task, advance=1, description=name),
        )
    size = sum(path.stat().st_size for path in out.iterdir() if path.is_file())
    typer.echo(f"{out}: {len(list(out.glob('*.onnx')))} graphs, {size / 1e6:.1f} MB")


NUM_GRAPHS = 7
"""Graphs of a complete deployment, for the progress display."""

if __name__ == "__main__":
    typer.run(main)
