"""The rolling-forcing fixtures: where they lie, their presets, and stages that play them.

Every size comes from a set's config.json, so that another set of the same layout passes the tests.
"""

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from networks.causal_wan import CausalWan
from networks.checkpoint import save_checkpoint, save_tensors
from networks.rolling_presets import RollingPreset
from pipeline.config.rolling import RollingConfig
from pipeline.engines.onnx import Engine
from pipeline.rolling.plan import Pass
from pipeline.rolling.window import WindowStage
from tests.golden.fixtures import GOLDEN_ROOT
from tests.golden.presets import golden_rolling_preset

if TYPE_CHECKING:
    from export.graphs.graph import Graph

ROLLING = GOLDEN_ROOT / "rolling_forcing"
_ABSENT = f"no fixtures at {ROLLING}; set GOLDEN_ROOT"
needs_rolling = pytest.mark.skipif(not (ROLLING / "README.md").is_file(), reason=_ABSENT)

Arrays = dict[str, NDArray[Any]]
STREAMS = tuple(
    sorted(
        path.parent.name
        for path in ROLLING.glob("*/inputs.safetensors")
        if all((path.parent / name).is_file() for name in ("config.json", "final.safetensors"))
    )
)
"""Folders of whole streams, whatever their names."""
TOLERANCE = 2e-5
"""Float32 sums in another order over a whole stream reach 2.3e-6; the smallest wrong rule moves
2e-3."""


def rolling_file(*parts: str) -> Path:
    path = ROLLING.joinpath(*parts)
    if not path.is_file():
        pytest.skip(_ABSENT)
    return path


@functools.cache
def facts(folder: str) -> dict[str, Any]:
    return json.loads(rolling_file(folder, "config.json").read_text())


@functools.cache
def arrays(folder: str, name: str) -> Arrays:
    from safetensors.numpy import load_file

    return load_file(rolling_file(folder, f"{name}.safetensors"))


def with_file(name: str) -> list[str]:
    """The streams that hold `<name>.safetensors`, too."""
    return [folder for folder in STREAMS if (ROLLING / folder / f"{name}.safetensors").is_file()]


def blocks_of(folder: str) -> int:
    return facts(folder)["config"]["num_blocks"]


@functools.cache
def main_stream() -> str:
    """The stream that faults are shown on: one whose cache evicts, in a set with small sizes.

    The shortest of those that are longer than window and cache together; skips where none is.
    """
    found = []
    for folder in STREAMS:
        config = preset(folder).stream
        if blocks_of(folder) >= config.cache_blocks + config.num_levels:
            found.append((blocks_of(folder), folder))
    if not found:
        pytest.skip(f"no stream of {ROLLING} is long enough to fill its cache")
    return min(found)[1]


def graph_groups() -> dict[str, list[str]]:
    """Streams by the stream whose graphs they run on: those with its weights and rules."""
    groups: dict[str, list[str]] = {}
    for folder in STREAMS:
        source = facts(folder)["config"].get("weights_from", folder)
        same = (ROLLING / source / "config.json").is_file() and preset(source) == preset(folder)
        groups.setdefault(source if same else folder, []).append(folder)
    return groups


def preset(folder: str, **stream: Any) -> RollingPreset:
    return golden_rolling_preset(facts(folder)["config"], **stream)


def weights(folder: str) -> Path:
    sibling = facts(folder)["config"].get("weights_from", folder)
    return rolling_file(sibling, "weights.safetensors")


@functools.cache
def network(folder: str) -> CausalWan:
    from export.graphs.wan import load_wan

    return load_wan(preset(folder), weights(folder))


def torch_stage(folder: str, **stream: Any) -> "RecordingStage":
    """A stage whose graphs are eager PyTorch modules; `stream` differs from the fixture's rules."""
    from export.graphs.time_mlp import timestep_tables
    from export.graphs.wan import graphs_of, timesteps_of
    from tests.golden.avatar.torch_engine import TorchEngine

    wan, config = network(folder), preset(folder, **stream).stream
    engines = {graph.name: TorchEngine(graph) for graph in graphs_of(wan, config)}
    constants = {name: t.numpy() for name, t in timestep_tables(wan, timesteps_of(config)).items()}
    return RecordingStage(config, engines, constants)


def onnx_stage(folder: str, out: Path, **stream: Any) -> "RecordingStage":
    """A stage on graphs exported into `out`, caches written in place."""
    from export.graphs.onnx_file import export_graph

    for graph in export_inputs(preset(folder, **stream), network(folder), out):
        export_graph(graph, out)
    return RecordingStage.load(out)


def export_inputs(preset: RollingPreset, wan: CausalWan, out: Path) -> "list[Graph]":
    """Write what the graphs need beside them (weights, timesteps, rolling.json); return them."""
    from export.graphs.time_mlp import timestep_tables
    from export.graphs.wan import WEIGHTS, graphs_of, timesteps_of

    out.mkdir(parents=True, exist_ok=True)
    preset.stream.save(out / "rolling.json")
    save_checkpoint(wan, out / WEIGHTS)
    save_tensors(
        timestep_tables(wan, timesteps_of(preset.stream)), out / "window_timesteps.safetensors"
    )
    return graphs_of(wan, preset.stream)


class RecordingStage(WindowStage):
    """Notes each pass in order: a window's input and velocity, the last layer's cache after a
    storing pass.
    """

    def __init__(self, config: RollingConfig, engines: Any, constants: Any) -> None:
        super().__init__(config, engines, constants)
        self.windows: list[tuple[Pass, NDArray[Any], NDArray[Any]]] = []
        self.stored: list[tuple[Pass, Arrays]] = []

    @classmethod
    def load(cls, folder: Path) -> "RecordingStage":
        """What `export_inputs` and the graphs of `folder` make."""
        engines = {path.stem: Engine(path) for path in sorted(folder.glob("dit_*.onnx"))}
        tables = load_file(folder / "window_timesteps.safetensors")
        return cls(RollingConfig.load(folder / "rolling.json"), engines, tables)

    def velocity(self, state: Any, each: Any, latent: Any) -> Any:
        velocity = super().velocity(state, each, latent)
        self.windows.append((each, latent.copy(), velocity.copy()))
        return velocity

    def store(self, state: Any, each: Any) -> None:
        super().store(state, each)
        last = self.config.num_layers - 1
        cache = {kv: state.cache[f"cache_{kv}_{last}"].copy() for kv in "kv"}
        self.stored.append((each, cache))
