"""TensorRT in a comparison: graphs in bfloat16, built on this machine's GPU and run there."""

from collections.abc import Sequence
from pathlib import Path

from export.checks.sides import EngineSide, Side
from export.checks.verify import Program
from export.engines.build import EngineBuilder, Target, build_all
from export.graphs.exporter import export_preset
from export.graphs.graph import Graph
from networks.presets import Preset
from pipeline.engines.gpu import Gpu
from pipeline.engines.tensorrt import TensorRTEngine

LIMIT = 5e-2
"""Error over an output's largest number: bfloat16 has 8 bits of mantissa, and the fixtures' guide
for it is 3e-2 per call."""
GREY_LEVELS = 16


def tensorrt_program(preset: Preset, folder: Path, components: Sequence[str]) -> Program:
    """Build plans from `folder/weights` into `folder/engines`; RuntimeError says what this machine
    lacks."""
    gpu = Gpu(0)
    gpu.memory()  # libraries without a device fail here
    graphs, plans = folder / "graphs_bf16", folder / "engines"
    export_preset(preset, folder / "weights", graphs, dtype="bf16", components=components)
    build_all(EngineBuilder(Target()), graphs, plans)
    return program_of(plans, gpu)


def program_of(plans: Path, gpu: Gpu) -> Program:
    """The plans of a folder on a GPU."""

    def opened(graph: Graph) -> Side:
        return EngineSide(graph, TensorRTEngine(plans / f"{graph.name}.plan", gpu))

    return Program(name="TensorRT", open=opened, limit=LIMIT, grey_levels=GREY_LEVELS, num_actors=1)
