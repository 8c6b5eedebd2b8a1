"""From released files to a table of errors: `python -m export.checks.release DIR --lora FILE`.

Inspects the files, prepares the weights with the LoRA merged, exports the graphs, and compares
PyTorch with ONNX Runtime and, on a machine with a GPU, with TensorRT. Ends with status 1 if a step
fails or an output differs, and says in numbers what does not fit into memory.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from export.checkpoint.files import Weights
from export.checkpoint.inspect import inspect_checkpoint, say_findings
from export.checkpoint.lora import RELEASED_ALPHA, RELEASED_RANK, open_lora
from export.checkpoint.prepare import open_release, prepare, used_keys
from export.checkpoint.released import COMPONENTS as RELEASED
from export.checks.sides import LIMIT, Program, onnx_runtime, tensorrt_program
from export.checks.verify import NUM_BLOCKS, report, verify
from export.commands import (
    Alpha,
    LoraFile,
    Rank,
    ReleaseFolder,
    Size,
    check_choices,
    failing_in_words,
    say_exported,
)
from export.graphs.exporter import export_preset
from export.presets import AvatarName, builders, preset_named, slice_of
from networks.presets import Preset

SIDES = 2
"""PyTorch and ONNX Runtime hold the weights at the same time."""
FLOAT32_BYTES = 4
MEMINFO = Path("/proc/meminfo")


def available_memory() -> int:
    """Bytes that programs may still take on this machine."""
    lines = dict(line.split(":") for line in MEMINFO.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def needed_memory(release: dict[str, Weights], preset: Preset) -> dict[str, int]:
    """Component -> bytes that its comparison takes, for the weights alone."""
    needs = {}
    for part in RELEASED:
        used = used_keys(part, release[part.name], preset).values()
        numbers = sum(info.num_bytes // info.dtype.itemsize for info in used)
        needs[part.name] = SIDES * FLOAT32_BYTES * numbers
    return needs


def check_memory(needs: dict[str, int], components: Sequence[str], available: int) -> None:
    """ValueError says of every component that is too large by how much, and what can be done."""
    if not (large := [name for name in components if needs[name] > available]):
        return
    lines = [
        f"{name}: its weights take {needs[name] / 1e9:.1f} GB (float32, once for PyTorch and once "
        f"for ONNX Runtime), {available / 1e9:.1f} GB of memory are available"
        for name in large
    ]
    fixes = [
        "--layers 2 (make verify LAYERS=2) compares the first two layers of DiT and text encoder",
        *(f"--component {name} compares it alone" for name in components if name not in large),
        "a machine with more memory compares all",
    ]
    raise ValueError("\n".join([*lines, *fixes]))


def programs_here(preset: Preset, out: Path, components: Sequence[str]) -> list[Program]:
    """TensorRT if it can run on this machine; says why not otherwise."""
    try:
        return [tensorrt_program(preset, out, components)]
    except RuntimeError as error:
        typer.echo(f"TensorRT is not compared: {error}")
        return []


@failing_in_words()
def main(
    folder: ReleaseFolder,
    lora: LoraFile = None,
    out: Annotated[Path, typer.Option(help="folder for weights and graphs")] = Path("build/verify"),
    preset: AvatarName = "14b",
    size: Size = None,
    layers: Annotated[int | None, typer.Option(help="compare the first layers alone")] = None,
    component: Annotated[
        list[str] | None, typer.Option(help="such as dit or vae; all if not given")
    ] = None,
    rank: Rank = RELEASED_RANK,
    alpha: Alpha = RELEASED_ALPHA,
    limit: Annotated[float, typer.Option(help="error over an output's largest number")] = LIMIT,
) -> None:
    """Prove that released files become graphs that compute what the networks do."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    full = preset_named(preset, size)
    parts = component or list(builders(full))
    check_choices("component", parts, builders(full))
    say_findings(inspect_checkpoint(folder, full, lora, rank=rank, alpha=alpha))
    chosen = full if layers is None else slice_of(full, layers)
    release = open_release(folder, full)
    check_memory(needed_memory(release, chosen), parts, available_memory())
    merge = None if lora is None else open_lora(lora, release["dit"], rank=rank, alpha=alpha)
    prepare(release, chosen, out / "weights", merge, parts)
    graphs = out / "graphs"
    export_preset(chosen, out / "weights", graphs, say_exported, components=parts)
    programs = [onnx_runtime(graphs, limit), *programs_here(chosen, out, parts)]
    depth = "" if layers is None else f", first {layers} layers"
    found = list(verify(chosen, graphs, programs, parts))
    report(f"{folder.name}{depth}: against PyTorch, {NUM_BLOCKS} blocks", found)


if __name__ == "__main__":
    typer.run(main)
