"""Compile the graphs without a GPU and say what builds: `python -m export.engine_check`.

The demo preset's graphs are exported with seeded weights and built in every precision, and so is a
slice of the 14B DiT at its full width: two of forty layers, weights of zeros. TensorRT-RTX refuses
an attention that it has no fused kernel for; what is taken apart while it is parsed is an error of
`engine_network`. The last line is one JSON object: {"<preset> <precision> sm<capability>": {graph:
{ok, seconds, cpu_seconds, bytes}}}. A green line says that a graph compiles, not that it runs, nor
how fast.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import struct
import sys
import tempfile
import time
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from export.engine_packages import install
from export.preset_options import slice_of
from networks.dit import DiT
from networks.presets import PRESETS, Preset

SLICE_LAYERS = 2
Result = dict[str, Any]
"""`ok`, `seconds`, `cpu_seconds` and `bytes`, or `error` in place of bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Graphs of one preset in one precision."""

    preset: str
    """`demo`, or `14b` for the slice."""
    precision: str
    components: tuple[str, ...]
    capability: tuple[int, int] = (8, 9)

    @property
    def name(self) -> str:
        major, minor = self.capability
        return f"{self.preset} {self.precision} sm{major}{minor}"


ALL = ("dit", "vae", "audio_encoder", "text_encoder")
CASES = (
    Case(preset="14b", precision="bf16", components=("dit",)),
    Case(preset="demo", precision="bf16", components=ALL),
    Case(preset="demo", precision="fp8", components=("dit",)),
    Case(preset="demo", precision="fp16", components=("dit",)),
)
"""The longest first: two run at a time."""


def write_zeros(preset: Preset, folder: Path, dtype: torch.dtype = torch.bfloat16) -> Path:
    """`dit.safetensors` of a preset, all weights zero: a file that takes no room on the disk."""
    with torch.device("meta"):
        state = DiT(preset.dit).state_dict()
    entries, offset = {}, 0
    for key in sorted(state):
        size = math.prod(state[key].shape) * dtype.itemsize
        entry = {"dtype": "BF16", "shape": list(state[key].shape)}
        entries[key] = {**entry, "data_offsets": [offset, offset + size]}
        offset += size
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    path = folder / "dit.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + offset)
    return path


def export_case(case: Case, folder: Path) -> float:
    """Write the case's graphs to `folder`; returns the seconds it took."""
    from export.init_weights import init_weights
    from export.to_onnx import export_preset

    start, weights = time.monotonic(), folder
    folder.mkdir(parents=True)
    preset = PRESETS[case.preset]
    if case.preset == "14b":
        preset = slice_of(preset, SLICE_LAYERS)
        write_zeros(preset, folder)
    else:
        weights = folder / "float32"
        weights.mkdir()
        init_weights(preset, weights, seed=0)
    export_preset(
        preset,
        weights,
        folder,
        dtype="bf16" if case.precision == "fp8" else case.precision,
        fp8=case.precision == "fp8",
        components=case.components,
    )
    return time.monotonic() - start


def build_case(case: Case, folder: Path) -> dict[str, Result]:
    """Graph -> what became of it."""
    from export.build_engine import EngineBuilder, Target
    from pipeline.config import PipelineConfig

    builder = EngineBuilder(Target(rtx=True, compute_capabilities=(case.capability,)))
    config = PipelineConfig.load(folder / "pipeline.json")
    results: dict[str, Result] = {}
    for graph in sorted(folder.glob("*.onnx")):
        start, cpu, plan = time.monotonic(), time.process_time(), folder / f"{graph.stem}.plan"
        try:
            size = builder.build(graph, plan, config).plan_bytes
            results[graph.stem] = {"ok": True, "bytes": size}
        except ValueError as error:
            results[graph.stem] = {"ok": False, "error": str(error)[:500]}
        results[graph.stem]["seconds"] = round(time.monotonic() - start, 1)
        results[graph.stem]["cpu_seconds"] = round(time.process_time() - cpu, 1)
        plan.unlink(missing_ok=True)
    return results


def run(case: Case, folder: Path) -> tuple[float, dict[str, Result]]:
    """Export and build one case; an export that fails is a result too."""
    torch.set_num_threads(1)
    try:
        seconds = export_case(case, folder)
    except Exception as error:
        return 0.0, {"export": {"ok": False, "error": f"{type(error).__name__}: {error}"[:500]}}
    return seconds, build_case(case, folder)


def run_all(cases: tuple[Case, ...], workers: int) -> dict[str, dict[str, Result]]:
    """Every case's results, said as they come."""
    found: dict[str, dict[str, Result]] = {}
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name, ProcessPoolExecutor(workers, spawn) as pool:
        futures: dict[Future[tuple[float, dict[str, Result]]], Case] = {
            pool.submit(run, case, Path(name) / str(i)): case for i, case in enumerate(cases)
        }
        for future in as_completed(futures):
            case = futures[future]
            seconds, found[case.name] = future.result()
            print(f"{case.name}: exported in {seconds:.1f} s")
            for graph, result in found[case.name].items():
                print("  " + _line(graph, result), flush=True)
    return found


def _line(graph: str, result: Result) -> str:
    if result["ok"]:
        times = f"{result['seconds']:6.1f} s ({result['cpu_seconds']:.1f} s of CPU)"
        return f"{graph:<20} ok {times} {result['bytes'] / 1e6:9.1f} MB"
    return f"{graph:<20} FAILED: {result['error']}"


def main(
    only: Annotated[list[str] | None, typer.Option(help="cases such as 'demo bf16'")] = None,
    workers: Annotated[int, typer.Option(help="cases at a time")] = 2,
) -> None:
    """Say what builds."""
    cases = tuple(c for c in CASES if not only or any(c.name.startswith(o) for o in only))
    if not cases:
        raise typer.BadParameter(f"no such case, there are {', '.join(c.name for c in CASES)}")
    try:
        install()
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    start = time.monotonic()
    found = run_all(cases, workers)
    results = [result for case in found.values() for result in case.values()]
    print(f"{sum(r['ok'] for r in results)} of {len(results)} in {time.monotonic() - start:.0f} s")
    print(json.dumps(found))
    if not all(result["ok"] for result in results):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
