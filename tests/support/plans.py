"""Plans that are words, with the manifests they would have had they been built."""

from pathlib import Path

import onnx
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from export.engines.network import read_model, sources, specs, type_of
from export.engines.profiles import load_config, ranges_of
from export.repository.catalogue import system_in
from pipeline.engines.manifest import Machine, Manifest, manifest_path

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "artifacts" / "demo"
ROLLING_DEMO = ROOT / "artifacts" / "rolling-demo"
MACHINE = Machine(gpu="NVIDIA H100", compute_capability="9.0", tensorrt="11.4.0")
TYPES = {"float32": "TYPE_FP32", "int64": "TYPE_INT64", "uint8": "TYPE_UINT8"}
"""Element types of graphs -> those of configurations."""


def describe(name: str, folder: Path = DEMO, weights_bytes: int = 2_000_000_000) -> Manifest:
    """The manifest of a graph of `folder`, had it been built with so many bytes of weights."""
    model = read_model(folder / f"{name}.onnx")
    profiles = ranges_of(name, load_config(folder))
    return Manifest(
        graph=name,
        machine=MACHINE,
        gpu_memory_bytes=24_000_000_000,
        opset=24,
        precision="bf16",
        sources=sources(folder / f"{name}.onnx", model),
        weights_bytes=weights_bytes,
        scratch_bytes=100_000_000,
        plan_bytes=weights_bytes + 1_000_000,
        builder_flags=(),
        build_seconds=1.0,
        inputs=specs(model.graph.input, profiles),
        outputs=specs(model.graph.output, profiles),
    )


def element_types(model: onnx.ModelProto) -> dict[str, str]:
    """Name of every input and output of a graph -> its element type."""
    return {value.name: type_of(value) for value in (*model.graph.input, *model.graph.output)}


def write_plans(out: Path, folder: Path = DEMO, weights_bytes: int = 2_000_000_000) -> Path:
    """A plan and its manifest for every graph of an export; returns `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for name in system_in(folder).graphs:
        (out / f"{name}.plan").write_text(f"plan of {name}")
        describe(name, folder, weights_bytes).save(manifest_path(out / f"{name}.plan"))
    return out


def configurations(repository: Path) -> dict[str, model_config_pb2.ModelConfig]:
    """Model -> its config.pbtxt."""
    return {path.parent.name: read_config(path) for path in repository.glob("*/config.pbtxt")}


def read_config(path: Path) -> model_config_pb2.ModelConfig:
    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
