"""What a client may not do: load models, register memory, call models behind the public ones."""

import http.client
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from deploy.server import admin
from deploy.server.health import CHANNEL_ARGS, state_of
from deploy.server.local import LocalServer
from deploy.server.ports import ADDRESS
from pipeline.config.avatar import PipelineConfig
from pipeline.triton.callers import ENVIRONMENT, PARAMETER
from tests.support.raw_stream import IMAGE, Stream, wait_until_free

pytestmark = pytest.mark.triton
DEEDS: dict[str, Any] = {
    "unload": lambda client, **key: client.unload_model("live_avatar", **key),
    "load": lambda client, **key: client.load_model("live_avatar", **key),
    "index": lambda client, **key: client.get_model_repository_index(**key),
    "shared memory": lambda client, **key: client.register_system_shared_memory(
        "ours", "/avatar_0", 64, **key
    ),
    "trace": lambda client, **key: client.get_trace_settings(**key),
    "log": lambda client, **key: client.update_log_settings({"log_info": False}, **key),
}
INNER = {
    "dit_stage_0": {"tick": np.zeros(1, np.int64)},
    "vae_decoder": {"tick": np.zeros(1, np.int64)},
    "text_encoder": {
        "token_ids": np.zeros((1, 160), np.int64),
        "token_mask": np.ones((1, 160), np.int64),
    },
}
"""Model -> inputs that it would take."""
CONFIG = PipelineConfig.load(Path(__file__).parents[3] / "artifacts" / "demo" / "pipeline.json")
_, CHANNELS, _, *SIZE = CONFIG.latent_shape
MOTION = np.zeros((1, CHANNELS, CONFIG.motion_frames, *SIZE), np.float32)


@pytest.fixture
def client(server: LocalServer) -> Any:
    with grpc.InferenceServerClient(server.grpc_url, channel_args=CHANNEL_ARGS) as client:
        yield client


def call(client: Any, model: str, *, key: str = "", **given: Any) -> Any:
    """`given`: arrays, and what gRPC is told of the sequence."""
    tensors: list[Any] = []
    arrays = {name: value for name, value in given.items() if isinstance(value, np.ndarray)}
    sequence = {name: value for name, value in given.items() if name not in arrays}
    for name, array in {**INNER[model], **arrays}.items():
        kind = "INT64" if array.dtype == np.int64 else "FP32"
        tensors.append(grpc.InferInput(name, array.shape, kind))
        tensors[-1].set_data_from_numpy(array)
    return client.infer(model, tensors, parameters={PARAMETER: key} if key else None, **sequence)


@pytest.mark.parametrize("deed", DEEDS)
def test_only_operators_may(client: Any, server: LocalServer, deed: str) -> None:
    """Any client could take a model out, and end everybody's session."""
    for headers in ({}, {admin.GRPC_HEADER: "wrong"}):
        with pytest.raises(InferenceServerException, match="restricted"):
            DEEDS[deed](client, headers=headers)
    assert state_of(server.ports, "live_avatar", server.admin_key) == "READY"


@pytest.mark.parametrize("path", ["index", "models/live_avatar/unload", "models/live_avatar/load"])
def test_http_asks_for_the_key_too(server: LocalServer, path: str) -> None:
    """The same doors stand at another port."""
    connection = http.client.HTTPConnection(ADDRESS, server.ports.http, timeout=30)
    connection.request("POST", f"/v2/repository/{path}")
    assert connection.getresponse().status == 403
    connection.close()
    assert state_of(server.ports, "live_avatar", "") is None
    assert state_of(server.ports, "live_avatar", server.admin_key) == "READY"


def test_the_key_is_for_one_user_and_one_start(server: LocalServer) -> None:
    """A key that everybody on the machine reads is none."""
    path = server.log_dir / admin.KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(server.admin_key) == 48
    assert server.admin_key not in server.log.read_text()
    assert admin.ENVIRONMENT == ENVIRONMENT


@pytest.mark.parametrize("model", INNER)
def test_clients_do_not_reach_the_models_behind(
    client: Any, server: LocalServer, model: str
) -> None:
    """A stage takes a session's number for its word: a stranger would take its places."""
    with pytest.raises(InferenceServerException, match=f"{model} serves other models"):
        call(client, model, sequence_id=7, sequence_start=True)
    with pytest.raises(InferenceServerException, match=f"{model} serves other models"):
        call(client, model, key="wrong", sequence_id=7, sequence_start=True)


def test_a_stranger_takes_no_places(client: Any, server: LocalServer) -> None:
    """A START at the decoder took one: the next client was told that all were in use."""
    with pytest.raises(InferenceServerException, match="serves other models"):
        call(client, "vae_decoder", sequence_id=7, sequence_start=True, motion=MOTION)
    guests = [Stream(server) for _ in range(2)]
    assert [guest.ask(start=True, image=IMAGE)[1] for guest in guests] == ["", ""]
    for guest in guests:
        guest.ask(end=True)
        guest.close()
    wait_until_free(server)


def test_an_encoder_answers_who_has_the_key(client: Any, server: LocalServer) -> None:
    """Operators test a model by itself."""
    assert call(client, "text_encoder", key=server.admin_key).as_numpy("text").ndim == 3
