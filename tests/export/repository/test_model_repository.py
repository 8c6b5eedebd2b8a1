"""The configurations: what Triton is told, on GPUs and on CPUs."""

from pathlib import Path

import onnx
import pytest
from tritonclient.grpc import model_config_pb2

from export.engines.network import read_model, shapes_of
from export.repository.catalogue import AVATAR, SPARE
from tests.support.plans import DEMO, ROLLING_DEMO, ROOT, TYPES, element_types, read_config

MODELS = sorted(path.parent for path in (ROOT / "model_repository").glob("*/config.pbtxt"))
STAGES = [model for model in MODELS if model.name.startswith("dit_stage_")]
ENCODERS = [model.name for model in AVATAR.encoders]
HOLDERS = ["live_avatar", "vae_decoder", *(stage.name for stage in STAGES)]


def config(model: Path, file: str = "config.pbtxt") -> model_config_pb2.ModelConfig:
    return read_config(model / file)


def cpu(name: str) -> model_config_pb2.ModelConfig:
    return config(ROOT / "model_repository" / name, "configs/cpu.pbtxt")


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_gpu_and_cpu_configurations_have_equal_inputs_and_outputs(model: Path) -> None:
    """A client or a stage would need to know where the server runs."""
    gpu, other = config(model), config(model, "configs/cpu.pbtxt")
    assert gpu.name == other.name == model.name
    assert list(gpu.input) == list(other.input)
    assert list(gpu.output) == list(other.output)
    assert gpu.model_transaction_policy == other.model_transaction_policy
    assert gpu.sequence_batching == other.sequence_batching


@pytest.mark.parametrize("file", ["config.pbtxt", "configs/cpu.pbtxt"])
def test_stages_differ_in_name_gpu_and_step_alone(file: str) -> None:
    """One stage would be configured unlike the others by mistake."""
    seen = []
    spare = ROOT / "model_repository" / SPARE
    for number, stage in enumerate([*STAGES, spare]):
        read = config(stage, file)
        wanted = "any" if stage == spare else str(number)
        assert read.parameters["steps"].string_value == wanted
        if file == "config.pbtxt" and stage != spare:
            assert list(read.instance_group[0].gpus) == [number]
        del read.instance_group[:]
        del read.parameters["steps"]
        read.name = ""
        seen.append(read)
    assert all(read == seen[0] for read in seen)


def test_no_gpu_is_given_to_two_holders_of_caches() -> None:
    """Two stages on one GPU are folded on purpose, never by accident."""
    gpus = []
    for name in HOLDERS[1:]:
        groups = config(ROOT / "model_repository" / name).instance_group
        gpus += [gpu for group in groups for gpu in group.gpus]
    assert sorted(gpus) == list(range(len(STAGES) + 1))


def test_every_holder_of_sessions_has_one_instance_and_the_same_limit() -> None:
    """A session lives in one process; a stage with fewer places would refuse admitted sessions."""
    for file in ("config.pbtxt", "configs/cpu.pbtxt"):
        limits = set()
        for name in HOLDERS:
            read = config(ROOT / "model_repository" / name, file)
            assert [group.count for group in read.instance_group] == [1]
            limits.add(read.parameters["max_sessions"].string_value)
        assert len(limits) == 1


def test_the_orchestrator_knows_every_stage_in_order() -> None:
    """A stage that nobody calls would leave its noise in."""
    stages = cpu("live_avatar").parameters["stages"].string_value
    assert stages.split(",") == [stage.name for stage in STAGES]


@pytest.mark.parametrize("name", ["audio_encoder", "audio_tokens", "text_encoder", "vae_encoder"])
def test_encoders_are_declared_as_their_graphs_are(name: str) -> None:
    """The TensorRT backend takes names and types from the graph itself."""
    graph = onnx.load(ROOT / "artifacts" / "demo" / f"{name}.onnx", load_external_data=False).graph
    types = {onnx.TensorProto.FLOAT: "TYPE_FP32", onnx.TensorProto.INT64: "TYPE_INT64"}
    for declared, values in ((cpu(name).input, graph.input), (cpu(name).output, graph.output)):
        assert [tensor.name for tensor in declared] == [value.name for value in values]
        for tensor, value in zip(declared, values, strict=True):
            kind = value.type.tensor_type
            assert model_config_pb2.DataType.Name(tensor.data_type) == types[kind.elem_type]
            sizes = [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim]
            assert len(sizes) == len(tensor.dims)
            assert all(want in (-1, size) for want, size in zip(tensor.dims, sizes, strict=True))


def test_the_public_model_admits_more_candidates_than_sessions() -> None:
    """One session too many would wait in silence instead of being told the limit."""
    read = cpu("live_avatar")
    assert read.sequence_batching.HasField("oldest")
    limit = int(read.parameters["max_sessions"].string_value)
    assert read.sequence_batching.oldest.max_candidate_sequences > 100 * limit
    idle_us = float(read.parameters["idle_timeout_s"].string_value) * 1e6
    assert read.sequence_batching.max_sequence_idle_microseconds > 10 * idle_us


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("file", ["config.pbtxt", "configs/cpu.pbtxt"])
def test_stateless_models_declare_what_their_graphs_have(name: str, file: str) -> None:
    """Triton's TensorRT backend compares names, types and sizes when it loads a plan."""
    declared_config = config(ROOT / "model_repository" / name, file)
    model = read_model(DEMO / f"{name}.onnx")
    types = element_types(model)
    for declared, shapes in (
        (declared_config.input, shapes_of(model.graph.input)),
        (declared_config.output, shapes_of(model.graph.output)),
    ):
        assert {tensor.name for tensor in declared} == set(shapes)
        for tensor in declared:
            kind = model_config_pb2.DataType.Name(tensor.data_type)
            assert kind == TYPES[types[tensor.name]]
            for want, size in zip(tensor.dims, shapes[tensor.name], strict=True):
                assert want == -1 or want == size


def test_the_stages_of_the_decoder_and_the_dit_declare_their_blocks() -> None:
    """Latents and frames on the wire are those of the graphs behind the models."""
    for model, graph, pairs in (
        ("dit_stage_0", "dit_embed", {"latent": "latent"}),
        ("dit_stage_0", "dit_step", {n: n for n in ("audio_local", "audio_global")}),
        ("dit_stage_0", "dit_sink", {"reference": "reference", "motion": "motion"}),
        ("dit_stage_0", "dit_text", {"text": "text"}),
        ("vae_decoder", "vae_decoder", {"latent": "latent", "frames": "frames"}),
    ):
        read = config(ROOT / "model_repository" / model)
        declared = {tensor.name: tensor for tensor in (*read.output, *read.input)}
        values = read_model(DEMO / f"{graph}.onnx").graph
        shapes = {v.name: v for v in (*values.input, *values.output)}
        for name, tensor in pairs.items():
            kind = shapes[tensor].type.tensor_type
            wanted = {onnx.TensorProto.FLOAT: "TYPE_FP32", onnx.TensorProto.UINT8: "TYPE_UINT8"}
            assert (
                model_config_pb2.DataType.Name(declared[name].data_type) == wanted[kind.elem_type]
            )
            assert len(declared[name].dims) == len(kind.shape.dim)


@pytest.mark.parametrize("file", ["config.pbtxt", "configs/cpu.pbtxt"])
@pytest.mark.parametrize(
    ("model", "graph", "names"),
    [
        ("rolling_text_encoder", "text_encoder", {"token_ids", "token_mask", "text"}),
        ("rolling_vae_decoder", "vae_decoder", {"latent", "frames"}),
        ("dit_window", "dit_clean", {"latent"}),
        ("dit_window", "dit_text", {"text"}),
    ],
)
def test_models_declare_what_their_graphs_have(
    file: str, model: str, graph: str, names: set[str]
) -> None:
    """A tensor of another type or rank would be refused block by block, or by the backend."""
    served = config(ROOT / "model_repository" / model, file)
    declared = {tensor.name: tensor for tensor in (*served.input, *served.output)}
    read = read_model(ROLLING_DEMO / f"{graph}.onnx")
    shapes, types = shapes_of([*read.graph.output, *read.graph.input]), element_types(read)
    if model == "rolling_text_encoder":
        assert set(declared) == set(shapes) == names
    for name in names:
        kind = model_config_pb2.DataType.Name(declared[name].data_type)
        assert kind == TYPES[types[name]]
        pairs = zip(declared[name].dims, shapes[name], strict=True)
        assert all(want in (-1, size) for want, size in pairs)
