"""The client's mirror of the wire equals the model's configuration."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from live_avatar_client.protocol import FPS, INPUTS, MODEL, SAMPLE_RATE, TensorSpec
from pipeline.config.avatar import PipelineConfig

FOLDER = Path(__file__).parents[2] / "model_repository" / "live_avatar"
OUTPUTS = {
    "frames": TensorSpec(datatype="UINT8", dims=(-1, -1, -1, 3)),
    "frame_index": TensorSpec(datatype="INT64", dims=(1,)),
    "block": TensorSpec(datatype="INT64", dims=(1,)),
    "generation": TensorSpec(datatype="INT64", dims=(1,)),
    "timings_ms": TensorSpec(datatype="FP32", dims=(-1,)),
    "latent": TensorSpec(datatype="FP32", dims=(1, 16, -1, -1, -1)),
}


def read_config(name: str) -> model_config_pb2.ModelConfig:
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"{path.relative_to(FOLDER.parents[1])} is not written yet")
    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


def specs(tensors) -> dict[str, TensorSpec]:
    return {
        tensor.name: TensorSpec(
            datatype=model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_"),
            dims=tuple(tensor.dims),
        )
        for tensor in tensors
    }


@pytest.mark.parametrize("name", ["config.pbtxt", "configs/cpu.pbtxt"])
def test_client_and_model_agree_on_names_types_and_shapes(name: str) -> None:
    """A tensor renamed on one side only fails at run time, in the user's hands."""
    config = read_config(name)
    assert config.name in ("", MODEL)
    assert specs(config.input) == dict(INPUTS)
    assert specs(config.output) == dict(OUTPUTS)
    assert all(tensor.optional for tensor in config.input)
    assert config.model_transaction_policy.decoupled
    assert config.max_batch_size == 0


def test_client_and_pipeline_agree_on_the_clock() -> None:
    """Frames per second and samples per second are the client's idea of time."""
    fields = PipelineConfig.__dataclass_fields__
    assert fields["sample_rate"].default == SAMPLE_RATE
    assert fields["fps"].default == FPS
