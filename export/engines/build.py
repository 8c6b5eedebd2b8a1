"""ONNX graphs to TensorRT plans, each with its manifest: one builder for all models.

    python -m export.engines.build --graphs artifacts/demo --out build/engines/demo
    python -m export.engines.build --graphs … --out … --rtx --compute-capability 8.9

TensorRT reads the precision from the graph and the sizes from pipeline.json or rolling.json. A plan
belongs to the GPU it was built on; with `--rtx` TensorRT-RTX builds it for a named compute
capability, without a GPU, to see that it can be built. The timing cache is kept per GPU type beside
the plans.
"""

import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from export.commands import failing_in_words
from export.engines.callbacks import Progress, kept_log, progress_monitor, shown_progress
from export.engines.network import (
    check_fused,
    check_log,
    parse,
    precision,
    read_model,
    shapes_of,
    sources,
    specs,
    weight_bytes,
)
from export.engines.packages import WHERE, load_tensorrt
from export.engines.profiles import Config, Ranges, load_config, profile, ranges_of
from pipeline.engines.gpu import Gpu
from pipeline.engines.manifest import Machine, Manifest, manifest_path

STREAMED = ("dit_text",)
"""Graphs that run once per prompt and may leave their weights in host memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What plans are built with and for."""

    rtx: bool = False
    compute_capabilities: tuple[tuple[int, int], ...] = ()
    """For TensorRT-RTX; TensorRT builds for the GPU that is there."""
    stream_weights: bool = False  # let the graphs of `STREAMED` leave their weights in host memory

    def __post_init__(self) -> None:
        if self.rtx != bool(self.compute_capabilities):
            raise ValueError("a compute capability goes with --rtx, and --rtx with one or more")


class EngineBuilder:
    """Builds plans for one target; the libraries are loaded once."""

    def __init__(self, target: Target, on_progress: Progress = lambda *_: None) -> None:
        self.target, self.on_progress = target, on_progress
        self.trt = load_tensorrt(target.rtx)
        try:
            self.gpu = None if target.rtx else Gpu(0)
        except RuntimeError as error:
            raise RuntimeError(f"no GPU can be used ({error}): {WHERE}") from None

    def machine(self) -> Machine:
        if self.gpu is not None:
            return self.gpu.machine()
        targets = ",".join(f"{major}.{minor}" for major, minor in self.target.compute_capabilities)
        return Machine(
            gpu="none",
            compute_capability=targets,
            tensorrt=self.trt.__version__,
            library="tensorrt_rtx",
        )

    def build(self, graph: Path, plan: Path, config: Config) -> Manifest:
        """Write `plan` and its manifest; ValueError names what TensorRT refuses or leaves out."""
        start, model = time.monotonic(), read_model(graph)
        files, profiles = sources(graph, model), ranges_of(graph.stem, config)
        streams = self.target.stream_weights and graph.stem in STREAMED
        plan.parent.mkdir(parents=True, exist_ok=True)
        settings = self._settings(shapes_of(model.graph.input), profiles, plan.parent, streams)
        self._compile(graph, model, plan, settings)
        seconds = time.monotonic() - start
        manifest = self._describe(files, model, plan, profiles, streams, seconds)
        manifest.save(manifest_path(plan))
        return manifest

    def _compile(self, graph: Path, model: Any, plan: Path, settings: Any) -> None:
        """Write the plan; the network and its weights are gone from memory afterwards."""
        from polygraphy.backend.trt import engine_bytes_from_network
        from polygraphy.logger import G_LOGGER

        G_LOGGER.module_severity, G_LOGGER.colors = G_LOGGER.WARNING, False
        log = kept_log(self.trt)
        builder, network, parser = parse(self.trt, log, graph)
        check_fused(network, model, graph.name)
        cache = None if self.target.rtx else str(self._timing_cache(plan.parent))
        try:
            with warnings.catch_warnings():  # Polygraphy sets what TensorRT-RTX does not heed
                warnings.simplefilter("ignore", DeprecationWarning)
                built = engine_bytes_from_network(
                    (builder, network, parser), config=settings, save_timing_cache=cache
                )
        except Exception as error:
            reasons = "; ".join(log.errors) or str(error)
            raise ValueError(f"{graph.name} cannot be built: {reasons}") from error
        check_log(log.warnings, graph.name)
        plan.write_bytes(built)

    def _settings(
        self,
        inputs: dict[str, list[int | str]],
        profiles: Sequence[Ranges],
        out: Path,
        streams: bool,
    ) -> Any:
        from polygraphy.backend import trt as polygraphy_trt

        made = [polygraphy_trt.Profile() for _ in profiles]
        for shapes, ranges in zip(made, profiles, strict=True):
            for name, (low, usual, high) in profile(inputs, ranges).items():
                shapes.add(name, min=low, opt=usual, max=high)
        options: dict[str, Any] = {
            "profiles": made,
            "weight_streaming": streams or None,
            "progress_monitor": progress_monitor(self.trt, self.on_progress),
        }
        if self.target.rtx:
            from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

            targets = list(self.target.compute_capabilities)
            return CreateConfigRTX(compute_capabilities=targets, **options)
        cache = self._timing_cache(out)
        if cache.is_file():
            options["load_timing_cache"] = str(cache)
        return polygraphy_trt.CreateConfig(**options)

    def _timing_cache(self, folder: Path) -> Path:
        gpu = self.machine().gpu.replace(" ", "_")
        return folder / f"timing_{gpu}_{self.trt.__version__}.cache"

    def _describe(
        self,
        files: dict[str, str],
        model: Any,
        plan: Path,
        profiles: Sequence[Ranges],
        streams: bool,
        seconds: float,
    ) -> Manifest:
        flags = ["STRONGLY_TYPED", *(["WEIGHT_STREAMING"] if streams else [])]
        return Manifest(
            graph=plan.stem,
            machine=self.machine(),
            gpu_memory_bytes=self.gpu.memory()[1] if self.gpu else 0,
            opset=model.opset_import[0].version,
            precision=precision(model),
            sources=files,
            weights_bytes=sum(map(weight_bytes, model.graph.initializer)),
            scratch_bytes=self._scratch_bytes(plan, streams),
            plan_bytes=plan.stat().st_size,
            builder_flags=tuple(flags),
            build_seconds=round(seconds, 2),
            inputs=specs(model.graph.input, profiles),
            outputs=specs(model.graph.output, profiles),
            streams_weights=streams,
        )

    def _scratch_bytes(self, plan: Path, streams: bool) -> int:
        """Activation memory, which only a loaded engine knows; 0 without a GPU."""
        return int(self.gpu.load(plan, streams).device_memory_size_v2) if self.gpu else 0


def build_all(
    builder: EngineBuilder, graphs: Path, out: Path, only: list[str] | None = None
) -> list[Manifest]:
    """Build every graph of a folder, or those in `only`, one after another."""
    config = load_config(graphs)
    names = only or sorted(path.stem for path in graphs.glob("*.onnx"))
    if not names:
        raise ValueError(f"{graphs} has no graphs; export writes them: make export")
    for name in names:
        if not (graphs / f"{name}.onnx").is_file():
            raise ValueError(f"{graphs} has no graph {name}.onnx")
    made = []
    for name in names:
        print(f"building {name}", file=sys.stderr, flush=True)
        made.append(builder.build(graphs / f"{name}.onnx", out / f"{name}.plan", config))
        manifest = made[-1]
        size = manifest.plan_bytes / 1e6
        print(f"{name}: {manifest.precision}, {manifest.build_seconds:.1f} s, {size:.1f} MB")
    return made


def capability(text: str) -> tuple[int, int]:
    """`8.9` -> (8, 9)."""
    major, dot, minor = text.partition(".")
    if not (dot and major.isdigit() and minor.isdigit()):
        raise ValueError(f"compute capability is {text!r}, wanted two numbers such as 8.9")
    return int(major), int(minor)


@failing_in_words(RuntimeError)
def main(
    graphs: Annotated[Path, typer.Option(help="folder of the exported graphs")],
    out: Annotated[Path, typer.Option(help="folder of the plans")],
    only: Annotated[list[str] | None, typer.Option(help="graphs to build, not all")] = None,
    rtx: Annotated[bool, typer.Option(help="use TensorRT-RTX, which needs no GPU")] = False,
    compute_capability: Annotated[
        list[str] | None, typer.Option(help="with --rtx: the GPUs' architecture, such as 8.9")
    ] = None,
    stream_weights: Annotated[
        bool,
        typer.Option(help=f"leave the weights of {', '.join(STREAMED)} in host memory"),
    ] = False,
) -> None:
    """Build TensorRT plans and their manifests."""
    target = Target(
        rtx=rtx,
        compute_capabilities=tuple(map(capability, compute_capability or ())),
        stream_weights=stream_weights,
    )
    build_all(EngineBuilder(target, shown_progress()), graphs, out, only)


if __name__ == "__main__":
    typer.run(main)
