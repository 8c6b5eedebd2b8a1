"""Compare graphs with their networks: `python -m export.checks.verify --artifacts DIR`.

Random inputs of three blocks go through PyTorch, in float32, through ONNX Runtime, and through
TensorRT where there are plans; caches and decoder states are carried on by each side for itself.
Ends with status 1 if an output differs. `export.checks.release` starts from released files.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from export.checks.sides import LIMIT, Arrays, Program, TorchSide, onnx_runtime
from export.commands import failing_in_words
from export.graphs.exporter import components_of
from export.graphs.graph import Graph
from export.presets import AvatarName, preset_named
from networks.presets import Preset

NUM_BLOCKS = 3
CARRIED = {"present_": "cache_", "next_state_": "state_"}
"""How names of outputs begin that are the next block's inputs, and those inputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The worst of one output of one graph in one program."""

    graph: str
    output: str
    share: float  # largest error over the largest number; of frames the error in grey levels
    limit: float
    program: str = "ONNX Runtime"

    @property
    def fits(self) -> bool:
        return self.share <= self.limit  # False for NaN


def compare(graph: Graph, program: Program, preset: Preset) -> list[Difference]:
    """Every output of a program's graph against the module, over NUM_BLOCKS blocks."""
    ours, theirs = TorchSide(graph), program.open(graph)
    worst = dict.fromkeys(graph.output_names, 0.0)
    wanted, got = Arrays(), Arrays()
    for block in range(NUM_BLOCKS):
        feeds = random_feeds(graph, preset, block, program.num_actors)
        wanted = ours.run(feeds | carried(wanted))
        got = theirs.run(feeds | carried(got))
        for name in graph.output_names:
            worst[name] = float(np.maximum(worst[name], _share(got[name], wanted[name])))
    return [
        Difference(
            graph=graph.name,
            output=name,
            share=share,
            limit=program.grey_levels if wanted[name].dtype == np.uint8 else program.limit,
            program=program.name,
        )
        for name, share in worst.items()
    ]


def carried(outputs: Arrays) -> Arrays:
    """A block's caches and states under the names that the next block takes them by."""
    return {
        new + name.removeprefix(old): array
        for name, array in outputs.items()
        for old, new in CARRIED.items()
        if name.startswith(old)
    }


def random_feeds(graph: Graph, preset: Preset, block: int, num_actors: int = 2) -> Arrays:
    """Inputs of one block, the same at every call; caches and states are those before the first."""
    sizes = {"actors": num_actors, "keys": _filled(preset, block)}
    generator = torch.Generator().manual_seed(block)
    feeds = {
        name: torch.randn(_shape(graph, name, sizes), generator=generator).numpy()
        for name, example in graph.inputs.items()
        if example.is_floating_point()
    }
    return feeds | {
        name: _integers(graph, name, preset, block)
        for name, example in graph.inputs.items()
        if not example.is_floating_point()
    }


def _shape(graph: Graph, name: str, sizes: Mapping[str, int]) -> list[int]:
    axes, shape = graph.dynamic.get(name, {}), enumerate(graph.inputs[name].shape)
    return [sizes.get(axes.get(axis, ""), size) for axis, size in shape]


def _filled(preset: Preset, block: int) -> int:
    """Tokens of the cache when so many blocks came before this one."""
    config = preset.pipeline
    return config.num_sink_tokens + (block + 1) * config.tokens_per_block


def _integers(graph: Graph, name: str, preset: Preset, block: int) -> NDArray[np.int64]:
    shape = graph.inputs[name].shape
    places = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    values: Mapping[str, Any] = {
        "write_index": _filled(preset, block - 1),
        "frame_index": places,
        "token_ids": places * 7 % preset.text.vocab,
        "token_mask": places < (block + 1) * 8,
        "frames": (places * 7 + block) % 256,
    }
    return np.broadcast_to(np.asarray(values[name], np.int64), shape)


def _share(got: NDArray[Any], wanted: NDArray[Any]) -> float:
    error = float(np.abs(got.astype(np.float64) - wanted.astype(np.float64)).max())
    return error if wanted.dtype == np.uint8 else error / (float(np.abs(wanted).max()) or 1.0)


def verify(
    preset: Preset,
    folder: Path,
    programs: Sequence[Program],
    components: Sequence[str] | None = None,
) -> Iterator[Difference]:
    """The worst output of each graph in `folder` in each program, component by component."""
    graphs = components_of(preset)
    for component in components or graphs:
        for graph in graphs[component](folder):
            for program in programs:
                found = compare(graph, program, preset)
                yield max(found, key=lambda each: (not each.fits, each.share / each.limit))


def report(title: str, found: Sequence[Difference]) -> None:
    """The table for people; ends the command with status 1 if anything differs."""
    shown = Table(title=title)
    for column in ("graph", "program", "worst output", "error", "limit", "verdict"):
        shown.add_column(column)
    for each in found:
        verdict = "[green]equal" if each.fits else "[red]differs"
        numbers = f"{each.share:.1e}", f"{each.limit:.1e}"
        shown.add_row(each.graph, each.program, each.output, *numbers, verdict)
    Console().print(shown)
    if not found or not all(each.fits for each in found):
        raise typer.Exit(1)


@failing_in_words()
def main(
    artifacts: Annotated[Path, typer.Option(help="folder of graphs and their safetensors")],
    preset: AvatarName = "demo",
    limit: Annotated[float, typer.Option(help="error over an output's largest number")] = LIMIT,
) -> None:
    """Compare every graph with its network."""
    found = list(verify(preset_named(preset), artifacts, [onnx_runtime(artifacts, limit)]))
    report(f"{preset}: against PyTorch, {NUM_BLOCKS} blocks", found)


if __name__ == "__main__":
    typer.run(main)
