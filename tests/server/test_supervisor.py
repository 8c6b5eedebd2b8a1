"""A supervised server through the deaths and standstills of its models' processes."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.server import process
from deploy.server.local import LocalServer
from deploy.server.supervisor import Supervisor
from export.repository.assemble import assemble
from tests.support.raw_stream import IMAGE, Stream

pytestmark = pytest.mark.triton
DEMO = Path(__file__).parents[2] / "artifacts" / "demo"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("supervised")
    repository = assemble(DEMO, folder / "repository", steps="0,1 2,3")
    with LocalServer(repository, log_dir=folder / "log") as server:
        yield server


@pytest.fixture
def supervisor(server: LocalServer) -> Iterator[Supervisor]:
    supervisor = Supervisor(server.pid, server.token, server.ports)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    time.sleep(0.2)
    yield supervisor
    supervisor.stop()
    thread.join()


def pid_of(server: LocalServer, model: str) -> int:
    (pid,) = [pid for pid in server.stub_pids() if process.stub_model(pid) == model]
    return pid


def until(supervisor: Supervisor, ready: bool, limit_s: float) -> float:
    """Seconds until the supervisor says so."""
    began = time.monotonic()
    while bool(supervisor.why_not_ready()) is ready:
        assert time.monotonic() - began < limit_s, supervisor.why_not_ready()
        time.sleep(0.01)
    return time.monotonic() - began


def is_served(server: LocalServer) -> bool:
    """Whether a new session is."""
    probe = Stream(server)
    answer = probe.ask(start=True, image=IMAGE)
    probe.ask(end=True)
    probe.close()
    return answer == (0, "")


@pytest.mark.parametrize(
    "model", ["dit_stage_0", "dit_stage_1", "vae_decoder", "audio_encoder", "live_avatar"]
)
def test_a_model_whose_process_is_killed_is_back(
    server: LocalServer, supervisor: Supervisor, model: str
) -> None:
    """It would stay dead for ever, and every health endpoint say ready."""
    assert supervisor.why_not_ready() == ""
    os.kill(pid_of(server, model), signal.SIGKILL)
    assert until(supervisor, False, 2) < 0.5
    assert model in supervisor.why_not_ready()
    until(supervisor, True, 20)
    assert is_served(server)


def test_a_process_that_stands_still_never_aborts_the_server(
    server: LocalServer, supervisor: Supervisor
) -> None:
    """A pause of a second and a half, and the next call takes everybody down."""
    talk = Stream(server)
    assert talk.ask(start=True, image=IMAGE) == (0, "")
    stage = pid_of(server, "dit_stage_1")
    os.kill(stage, signal.SIGSTOP)
    talk.send(audio=__import__("numpy").zeros(16_000, "float32"))
    time.sleep(1.6)
    if process.is_alive(stage, server.token):
        os.kill(stage, signal.SIGCONT)
    assert talk.answer()[1]
    talk.close()
    until(supervisor, True, 20)
    assert pid_of(server, "dit_stage_1") != stage
    assert is_served(server)


def test_what_somebody_unloads_stays_unloaded(server: LocalServer, supervisor: Supervisor) -> None:
    """An operator would fight with the supervisor."""
    from deploy.server.health import _ask, state_of

    path = "/v2/repository/models/text_encoder"
    before = supervisor.num_reloads
    _ask(server.ports, "POST", f"{path}/unload")
    time.sleep(3)
    assert state_of(server.ports, "text_encoder") != "READY"
    assert supervisor.num_reloads == before
    _ask(server.ports, "POST", f"{path}/load", 60)
    until(supervisor, True, 10)
