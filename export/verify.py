"""Compare graphs with the networks they came from: `python -m export.verify --artifacts DIR`.

Random inputs of three blocks go through PyTorch, in float32, and through ONNX Runtime; caches and
decoder states are carried on by each side for itself. Ends with status 1 if an output differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from export.checkpoint_cli import failing_in_words
from export.graph import Graph
from export.preset_options import preset_named
from export.to_onnx import COMPONENTS
from networks.presets import PRESETS, Preset

Arrays = dict[str, NDArray[Any]]
NUM_BLOCKS = 3
LIMIT = 1e-4
"""Error as a share of an output's largest number: what float32 programs differ by."""
GREY_LEVELS = 1
"""Frames are rounded to 8 bits: where two programs straddle a half they differ by one."""
CARRIED = {"present_": "cache_", "next_state_": "state_"}
"""How names of outputs begin that are the next block's inputs, and those inputs."""
TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The worst of one output of one graph."""

    graph: str
    output: str
    share: float
    """Largest error over the largest number; of frames the error in grey levels."""
    limit: float

    @property
    def fits(self) -> bool:
        return self.share <= self.limit  # False for NaN


def compare(graph: Graph, folder: Path, preset: Preset, limit: float = LIMIT) -> list[Difference]:
    """Every output of `folder/<graph>.onnx` against the module, over NUM_BLOCKS blocks."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(folder / f"{graph.name}.onnx", options)
    types = {value.name: TYPES[value.type] for value in session.get_inputs()}
    worst = dict.fromkeys(graph.output_names, 0.0)
    ours: Arrays = {}
    theirs: Arrays = {}
    for block in range(NUM_BLOCKS):
        feeds = random_feeds(graph, preset, block)
        ours, theirs = feeds | _carried(ours), feeds | _carried(theirs)
        ours = _in_torch(graph, ours)
        outputs = session.run(None, {name: theirs[name].astype(types[name]) for name in types})
        theirs = dict(zip(graph.output_names, outputs, strict=True))
        for name in graph.output_names:
            worst[name] = float(np.maximum(worst[name], _share(theirs[name], ours[name])))
    return [
        Difference(
            graph=graph.name,
            output=name,
            share=share,
            limit=GREY_LEVELS if ours[name].dtype == np.uint8 else limit,
        )
        for name, share in worst.items()
    ]


def random_feeds(graph: Graph, preset: Preset, block: int) -> Arrays:
    """Inputs of one block, the same at every call; states and caches are to be carried on."""
    generator = torch.Generator().manual_seed(block)
    feeds = {
        name: torch.randn(example.shape, generator=generator).numpy()
        for name, example in graph.inputs.items()
        if example.is_floating_point()
    }
    return feeds | {
        name: _integers(graph, name, preset, block)
        for name, example in graph.inputs.items()
        if not example.is_floating_point()
    }


def _integers(graph: Graph, name: str, preset: Preset, block: int) -> NDArray[np.int64]:
    config, shape = preset.pipeline, graph.inputs[name].shape
    first = config.num_sink_tokens + block * config.tokens_per_block
    places = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    values: Mapping[str, Any] = {
        "write_index": first if "valid_tokens" in graph.inputs else 0,
        "valid_tokens": first + config.tokens_per_block,
        "frame_index": places,
        "token_ids": places * 7 % preset.text.vocab,
        "token_mask": places < (block + 1) * 8,
    }
    return np.broadcast_to(np.asarray(values[name], np.int64), shape)


def _carried(outputs: Arrays) -> Arrays:
    return {
        new + name.removeprefix(old): array
        for name, array in outputs.items()
        for old, new in CARRIED.items()
        if name.startswith(old)
    }


def _in_torch(graph: Graph, feeds: Arrays) -> Arrays:
    with torch.inference_mode():
        result = graph.module(**{k: torch.tensor(feeds[k]) for k in graph.inputs})
    results = result if isinstance(result, tuple) else (result,)
    return {k: t.numpy() for k, t in zip(graph.output_names, results, strict=True)}


def _share(got: NDArray[Any], wanted: NDArray[Any]) -> float:
    error = float(np.abs(got.astype(np.float64) - wanted.astype(np.float64)).max())
    return error if wanted.dtype == np.uint8 else error / (float(np.abs(wanted).max()) or 1.0)


def verify(preset: Preset, folder: Path, limit: float = LIMIT) -> Iterator[Difference]:
    """The worst output of each graph in `folder`, component by component."""
    for graphs_of in COMPONENTS.values():
        for graph in graphs_of(preset, folder):
            found = compare(graph, folder, preset, limit)
            yield max(found, key=lambda each: (not each.fits, each.share / each.limit))


@failing_in_words
def main(
    artifacts: Annotated[Path, typer.Option(help="folder of graphs and their safetensors")],
    preset: Annotated[str, typer.Option(help="which sizes: " + ", ".join(PRESETS))] = "demo",
    limit: Annotated[float, typer.Option(help="error over an output's largest number")] = LIMIT,
) -> None:
    """Compare every graph with its network."""
    shown = Table(title=f"{preset}: ONNX Runtime against PyTorch, {NUM_BLOCKS} blocks")
    for title in ("graph", "worst output", "error", "limit", "verdict"):
        shown.add_column(title)
    found = list(verify(preset_named(preset), artifacts, limit))
    for each in found:
        verdict = "[green]equal" if each.fits else "[red]differs"
        numbers = f"{each.share:.1e}", f"{each.limit:.1e}"
        shown.add_row(each.graph, each.output, *numbers, verdict)
    Console().print(shown)
    if not all(each.fits for each in found):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
