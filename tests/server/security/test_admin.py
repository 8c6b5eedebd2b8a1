"""What a client may not do: load models, register memory, call models behind the public ones."""

import http.client
import stat
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from deploy.server import admin
from deploy.server.health import CHANNEL_ARGS, state_of
from deploy.server.local import LocalServer
from deploy.server.ports import ADDRESS
from pipeline.triton.callers import ENVIRONMENT, PARAMETER
from tests.support.raw_stream import IMAGE, Stream

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


@pytest.fixture
def client(server: LocalServer) -> Any:
    with grpc.InferenceServerClient(server.grpc_url, channel_args=CHANNEL_ARGS) as client:
        yield client


def call(client: Any, model: str, *, key: str = "", **sequence: Any) -> Any:
    tensors = []
    for name, array in INNER[model].items():
        tensors.append(grpc.InferInput(name, array.shape, "INT64"))
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
    """A stage takes a session's number for its word: a stranger would end it, or take its place."""
    with pytest.raises(InferenceServerException, match=f"{model} serves other models"):
        call(client, model, sequence_id=7, sequence_start=True)
    with pytest.raises(InferenceServerException, match=f"{model} serves other models"):
        call(client, model, key="wrong", sequence_id=7, sequence_start=True)


def test_a_stranger_cannot_end_sessions_at_a_stage(client: Any, server: LocalServer) -> None:
    """END of session 0 closes all that a stage holds."""
    stream = Stream(server)
    assert stream.ask(start=True, image=IMAGE)[1] == ""
    with pytest.raises(InferenceServerException, match="serves other models"):
        call(client, "dit_stage_0", sequence_id=0, sequence_end=True)
    assert stream.ask(audio=np.zeros(16_000, np.float32), end=True) == (3, "")
    stream.close()


def test_an_encoder_answers_who_has_the_key(client: Any, server: LocalServer) -> None:
    """Operators test a model by itself."""
    assert call(client, "text_encoder", key=server.admin_key).as_numpy("text").ndim == 3
