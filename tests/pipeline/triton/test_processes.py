"""Deaths of models' processes, on processes that only sleep."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from pipeline.sessions.calls import ModelLost
from pipeline.triton import processes
from pipeline.triton.processes import Processes
from tests.support.waiting import happens

STAGE = "dit_stage_1"
SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]


class Server:
    """What Triton says: that a model is loaded, though its process is dead."""

    def __init__(self) -> None:
        self.is_loaded = True
        self.processes = Processes(lambda _: self.is_loaded)
        self.stub = subprocess.Popen(SLEEPS)
        self.processes.seen(STAGE, self.stub.pid)

    def kill(self) -> None:
        self.stub.kill()
        self.stub.wait()

    def answers(self) -> bool:
        """Whether a call is sent."""
        try:
            return self.processes.call(STAGE, lambda: True)
        except ModelLost:
            return False


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.kill()
    server.processes.stop()


def test_a_call_whose_process_dies_is_given_up(server: Server) -> None:
    """Triton would answer after a second, and to the next in the queue after two."""
    never = threading.Event()
    threading.Timer(0.2, server.kill).start()
    began_s = time.monotonic()
    with pytest.raises(ModelLost, match="dit_stage_1: its process has died"):
        server.processes.call(STAGE, never.wait)
    assert time.monotonic() - began_s < 0.8
    never.set()


def test_an_answer_that_is_on_its_way_at_the_death_is_taken(server: Server) -> None:
    """The block behind it may have been begun, and has overwritten what this one saw."""

    def answer() -> str:
        server.kill()
        time.sleep(0.03)
        return "made"

    assert server.processes.call(STAGE, answer) == "made"


def test_nothing_is_sent_to_a_dead_process_until_its_model_is_loaded_anew(server: Server) -> None:
    """Each call would take a second and stand in the way of the next."""
    assert server.answers()
    server.kill()
    assert happens(lambda: not server.answers(), within_s=2)
    server.is_loaded = False
    assert not happens(server.answers, within_s=0.2)
    server.is_loaded = True
    assert server.answers()


def test_without_a_supervisor_the_model_is_asked_all_the_same(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody may have loaded it so fast that nobody saw it."""
    monkeypatch.setattr(processes, "RELOAD_S", 0.1)
    server.kill()
    assert happens(lambda: not server.answers(), within_s=2)
    assert happens(server.answers, within_s=2)


def test_a_model_that_is_back_is_watched_anew(server: Server) -> None:
    """The second death would cost what the first did before."""
    server.kill()
    assert happens(lambda: not server.answers(), within_s=2)
    server.stub = subprocess.Popen(SLEEPS)
    server.processes.seen(STAGE, server.stub.pid)
    assert server.answers()
    server.kill()
    assert happens(lambda: not server.answers(), within_s=2)


def test_a_process_that_cannot_be_watched_is_called_as_it_is(server: Server) -> None:
    """No session would start on a system that does not let us."""
    server.kill()
    server.processes.seen("vae_decoder", server.stub.pid)
    assert server.processes.call("vae_decoder", lambda: 7) == 7


def test_a_reload_that_is_over_before_anybody_asks_is_known(server: Server) -> None:
    """It would be waited for until it may no more have begun."""
    server.kill()
    time.sleep(0.1)
    server.is_loaded = False
    time.sleep(0.1)
    server.is_loaded = True
    time.sleep(0.1)
    assert server.answers()
