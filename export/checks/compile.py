"""Compile the graphs without a GPU and say what builds: `python -m export.checks.compile`.

The demo presets' graphs are exported with seeded weights and built, those of the avatar's DiT in
every precision. Of the released networks, with weights of zeros, two layers of the transformers are
built at their full width, and the whole VAE for a small picture: kernels depend on the width. Which
graphs there are is the exporter's matter: all that it writes must build.
TensorRT-RTX refuses an attention that it has no fused kernel for; what was taken apart before is an
error of `engine_network`.

The last line is one JSON object: {"<preset> <precision> sm<capability>": {graph: {ok, seconds,
cpu_seconds, bytes}}}. A green line says that a graph compiles, not that it runs, nor how fast.
"""

import dataclasses
import json
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from export.checkpoint.files import TensorInfo
from export.checkpoint.writer import write_zeros
from export.commands import failing_in_words
from export.engines.packages import install
from export.presets import AnyPreset, any_preset, builders, deployed, init_weights, slice_of
from networks.rolling_presets import RollingPreset

Capability = tuple[int, int]
Result = dict[str, Any]
"""`ok`, `seconds`, `cpu_seconds` and `bytes`, or `error` in place of bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Graphs of one preset in one precision."""

    preset: str  # one of `SLICED` stands for a slice of itself
    precision: str
    components: tuple[str, ...]
    capability: Capability = (8, 9)
    side: int = 0  # height and width of the picture; 0: those of the preset

    @property
    def name(self) -> str:
        major, minor = self.capability
        size = f" {self.side}x{self.side}" if self.side else ""
        return f"{self.preset}{size} {self.precision} sm{major}{minor}"


SLICED, SLICE_LAYERS = ("14b", "rolling-1.3b"), 2
ALL = ("dit", "vae", "audio_encoder", "text_encoder")
CASES = (
    Case(preset="14b", precision="bf16", components=("dit",)),
    Case(preset="demo", precision="bf16", components=ALL),
    Case(preset="demo", precision="fp8", components=("dit",)),
    Case(preset="rolling-demo", precision="bf16", components=("wan", "vae")),
    Case(preset="demo", precision="fp16", components=("dit",)),
    Case(preset="rolling-1.3b", precision="bf16", components=("wan",)),
    Case(preset="14b", precision="bf16", components=("vae",), side=64),
    Case(preset="rolling-1.3b", precision="bf16", components=("vae",), side=64),
)
"""The longest first: two run at a time."""


def export_case(case: Case, folder: Path) -> list[str]:
    """Write the case's graphs to `folder`; returns their names."""
    from export.graphs.exporter import export_preset

    weights, names = folder, list[str]()
    folder.mkdir(parents=True)
    preset = with_side(any_preset(case.preset), case.side)
    if case.preset in SLICED:
        preset = slice_of(preset, SLICE_LAYERS)
        for component in case.components:
            write_slice(preset, folder, component)
    else:
        weights = folder / "float32"
        weights.mkdir()
        init_weights(preset, weights, seed=0)
    places = (weights, folder, names.append)
    export_preset(preset, *places, dtype=case.precision, components=case.components)
    return names


def with_side(preset: AnyPreset, side: int) -> AnyPreset:
    """The preset for square pictures; 0 leaves it as it is."""
    if not side:
        return preset
    if isinstance(preset, RollingPreset):
        stream = dataclasses.replace(preset.stream, height=side, width=side)
        return dataclasses.replace(preset, stream=stream)
    return deployed(preset, height=side, width=side)


def write_slice(preset: AnyPreset, folder: Path, name: str) -> Path:
    """The safetensors of a component in bfloat16, all weights zero."""
    with torch.device("meta"):
        state = builders(preset)[name]().state_dict()
    infos = {k: TensorInfo(dtype=torch.bfloat16, shape=tuple(t.shape)) for k, t in state.items()}
    return write_zeros(folder / f"{name}.safetensors", infos)


def build_graphs(names: Sequence[str], folder: Path, capability: Capability) -> dict[str, Result]:
    """Graph -> what became of it."""
    from export.engines.build import EngineBuilder, Target
    from export.engines.profiles import load_config

    builder = EngineBuilder(Target(rtx=True, compute_capabilities=(capability,)))
    config = load_config(folder)
    results: dict[str, Result] = {}
    for name in names:
        start, cpu, plan = time.monotonic(), time.process_time(), folder / f"{name}.plan"
        try:
            size = builder.build(folder / f"{name}.onnx", plan, config).plan_bytes
            results[name] = {"ok": True, "bytes": size}
        except ValueError as error:
            results[name] = {"ok": False, "error": str(error)[:500]}
        results[name]["seconds"] = round(time.monotonic() - start, 1)
        results[name]["cpu_seconds"] = round(time.process_time() - cpu, 1)
        plan.unlink(missing_ok=True)
    return results


def run(case: Case, folder: Path) -> tuple[str, dict[str, Result]]:
    """Export and build one case, and what the export took; one that fails is a result too."""
    torch.set_num_threads(1)
    start, cpu = time.monotonic(), time.process_time()
    try:
        names = export_case(case, folder)
    except Exception as error:
        words = f"{type(error).__name__}: {error}"[:500]
        return "not exported", {"export": {"ok": False, "error": words}}
    seconds, busy = time.monotonic() - start, time.process_time() - cpu
    exported = f"exported in {seconds:.1f} s ({busy:.1f} s of CPU)"
    return exported, build_graphs(names, folder, case.capability)


def run_all(cases: tuple[Case, ...], workers: int) -> dict[str, dict[str, Result]]:
    """Every case's results, said as they come."""
    found: dict[str, dict[str, Result]] = {}
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name, ProcessPoolExecutor(workers, spawn) as pool:
        futures: dict[Future[tuple[str, dict[str, Result]]], Case] = {
            pool.submit(run, case, Path(name) / str(i)): case for i, case in enumerate(cases)
        }
        for future in as_completed(futures):
            case = futures[future]
            exported, found[case.name] = future.result()
            print(f"{case.name}: {exported}")
            for graph, result in found[case.name].items():
                print("  " + _line(graph, result), flush=True)
    return found


def _line(graph: str, result: Result) -> str:
    if result["ok"]:
        times = f"{result['seconds']:6.1f} s ({result['cpu_seconds']:.1f} s of CPU)"
        return f"{graph:<20} ok {times} {result['bytes'] / 1e6:9.1f} MB"
    return f"{graph:<20} FAILED: {result['error']}"


@failing_in_words(RuntimeError)
def main(
    only: Annotated[list[str] | None, typer.Option(help="cases such as 'demo bf16'")] = None,
    workers: Annotated[int, typer.Option(help="cases at a time")] = 2,
) -> None:
    """Say what builds."""
    cases = tuple(c for c in CASES if not only or any(c.name.startswith(o) for o in only))
    if not cases:
        raise typer.BadParameter(f"no such case, there are {', '.join(c.name for c in CASES)}")
    install()
    start = time.monotonic()
    found = run_all(cases, workers)
    results = [result for case in found.values() for result in case.values()]
    print(f"{sum(r['ok'] for r in results)} of {len(results)} in {time.monotonic() - start:.0f} s")
    print(json.dumps(found))
    if not all(result["ok"] for result in results):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
