"""A server whose models contradict each other, while it runs and when nobody waits for it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tritonclient import grpc

from benchmarks.sleeping_repository import CONFIG, build
from deploy.server import health, launch
from deploy.server.health import CHANNEL_ARGS
from deploy.server.local import LocalServer
from live_avatar_client import AvatarError, Session
from tests.server.test_configurations import set_parameter
from tests.support.waiting import happens

pytestmark = pytest.mark.triton
WORDS = "vae_decoder takes max_sessions 1, live_avatar 4; they must be equal"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository of models that only sleep."""
    return build(tmp_path / "repository", sleep_s=0.001)


@contextmanager
def unattended(models: Path, log_dir: Path) -> Iterator[LocalServer]:
    """A server whose starter does not wait for the verdict, as in a container."""
    server = LocalServer(models, log_dir=log_dir)
    server._launch(server._check())
    try:
        assert happens(lambda: "live_avatar" in index(server), 120)
        yield server
    finally:
        server.stop()


@contextmanager
def served(models: Path, folder: Path) -> Iterator[tuple[LocalServer, grpc.InferenceServerClient]]:
    """A server, and a client that loads and unloads its models."""
    with (
        LocalServer(models, log_dir=folder / "log") as server,
        grpc.InferenceServerClient(server.grpc_url, channel_args=CHANNEL_ARGS) as client,
    ):
        yield server, client


def index(server: LocalServer) -> dict[str, str]:
    """Model -> state."""
    answer = health._ask(server.ports, "POST", "/v2/repository/index", key=server.admin_key)
    return {m["name"]: m.get("state", "") for m in json.loads(answer or b"[]")}


def blocks(server: LocalServer) -> int:
    """How many a short session gets."""
    image = np.zeros((64, 64, 3), np.uint8)
    features = np.zeros((1, 1, 1, CONFIG.video_frames_per_block), np.float32)
    with Session(url=server.grpc_url, image=image) as session:
        session.send(audio_features=features)
        session.finish()
        return len(list(session))


def is_refused(server: LocalServer) -> bool:
    """Whether a session hears WORDS as the answer to its START."""
    image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(AvatarError) as caught, Session(url=server.grpc_url, image=image) as session:
        next(iter(session))
    return str(caught.value) == f"live_avatar: {WORDS}"


def test_the_public_model_unloads_itself_and_leaves_the_others(
    models: Path, tmp_path: Path
) -> None:
    """Whoever asks the model's health would send clients there."""
    set_parameter(models, "vae_decoder", "max_sessions", "1")
    with unattended(models, tmp_path / "log") as server:
        assert happens(lambda: index(server).get("live_avatar") == "UNAVAILABLE", 60)
        assert {s for name, s in index(server).items() if name != "live_avatar"} == {"READY"}
        assert f"live_avatar refuses every session: {WORDS}" in server.log.read_text()
        with grpc.InferenceServerClient(server.grpc_url, channel_args=CHANNEL_ARGS) as client:
            assert client.is_server_live()
            assert not client.is_model_ready("live_avatar")


def test_a_public_model_that_came_last_leaves_when_a_stage_is_missing(
    models: Path, tmp_path: Path
) -> None:
    """It stayed ready and refused every session, unless it had heard that the server starts."""
    set_parameter(models, "live_avatar", "stages", "dit_stage_0,dit_stage_1,dit_stage_2,typo")
    code = models / "live_avatar" / "1/pipeline/identity/examination.py"
    text = code.read_text()
    code.unlink()  # its first question comes when the server is ready
    code.write_text(text.replace("SETTLE_S = 0.5", "SETTLE_S = 6"))
    with unattended(models, tmp_path / "log") as server:
        assert happens(lambda: index(server).get("live_avatar") == "UNAVAILABLE", 60)
        words = "live_avatar refuses every session: not all of its models can be reached: typo"
        assert words in server.log.read_text()


@pytest.mark.slow
def test_a_public_model_that_is_loaded_by_hand_waits_for_its_holders(
    models: Path, tmp_path: Path
) -> None:
    """After a fault models are loaded one by one, and the public one may be the first."""
    with served(models, tmp_path) as (server, client):
        for model in ("live_avatar", "vae_decoder"):
            client.unload_model(model, headers=server.admin_headers)
            assert happens(lambda name=model: not client.is_model_ready(name), 30)
        client.load_model("live_avatar", headers=server.admin_headers)
        words = "live_avatar refuses every session: not all of its models can be reached"
        assert happens(lambda: words in server.log.read_text(), 30)
        time.sleep(2)
        assert client.is_model_ready("live_avatar")
        client.load_model("vae_decoder", headers=server.admin_headers)
        assert happens(lambda: server.log.read_text().count("its models belong together") == 2, 30)
        assert blocks(server) == 1


@pytest.mark.slow
def test_a_server_that_keeps_its_models_refuses_every_session(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without explicit model control nothing can be unloaded, and asking may end the server."""
    explicit = launch.command

    def fixed(**given: object) -> list[str]:
        flags = [flag for flag in explicit(**given) if not flag.startswith("--load-model")]
        return [flag.replace("=explicit", "=none") for flag in flags]

    monkeypatch.setattr(launch, "command", fixed)
    set_parameter(models, "vae_decoder", "max_sessions", "1")
    with unattended(models, tmp_path / "log") as server:
        assert all(is_refused(server) for _ in range(3))
        assert set(index(server).values()) == {"READY"}


@pytest.mark.slow
def test_a_model_that_was_loaded_anew_is_compared_at_the_next_session(
    models: Path, tmp_path: Path
) -> None:
    """After a fault a stage comes back from another disk, with another configuration."""
    with served(models, tmp_path) as (server, client):
        assert blocks(server) == 1
        for limit in ("1", "4"):
            set_parameter(models, "vae_decoder", "max_sessions", limit)
            client.unload_model("vae_decoder", headers=server.admin_headers)
            assert happens(lambda: not client.is_model_ready("vae_decoder"), 30)
            client.load_model("vae_decoder", headers=server.admin_headers)
            assert limit == "4" or is_refused(server)
        assert blocks(server) == 1  # nothing is left open by those that were refused
