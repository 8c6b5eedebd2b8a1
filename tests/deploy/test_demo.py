"""How `make demo` ends when it is told to, on a client that only stands in."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy import demo

pytestmark = pytest.mark.long

REPO = Path(demo.__file__).parents[1]
CLIENT = """#!{python}
import signal, sys, time
heard = []
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: heard.append(number))
out = sys.argv[sys.argv.index("--out") + 1]
open(out + ".part", "w").close()
while not heard:
    time.sleep(0.01)
time.sleep(1.5)  # it writes what came so far
open(out, "w").write(repr([int(number) for number in heard]))
sys.exit(128 + heard[0])
"""
STREAM = """import pathlib, sys
from deploy import checkout, demo, outcome
checkout.default_python = lambda: sys.argv[1]
out = pathlib.Path(sys.argv[2])
code = outcome.exit_code(lambda: demo.stream("127.0.0.1:1", out, out, out))
print("the server ends", flush=True)
sys.exit(code)
"""
Begin = Callable[[], subprocess.Popen[str]]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out" / "demo.mp4"


@pytest.fixture
def begin(tmp_path: Path, out: Path) -> Begin:
    """A demo whose client has begun to write; a session of its own, as in a terminal."""

    def start() -> subprocess.Popen[str]:
        client = tmp_path / "live-avatar"
        client.write_text(CLIENT.format(python=sys.executable))
        client.chmod(0o755)
        command = [sys.executable, "-c", STREAM, str(tmp_path / "python"), str(out)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        begun = subprocess.Popen(command, cwd=REPO, start_new_session=True, **streams)
        deadline = time.monotonic() + 30
        while not out.with_name("demo.mp4.part").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        return begun

    return start


@pytest.mark.parametrize("to_all", [True, False], ids=["terminal", "kill"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_ended_lets_its_client_finish(
    begin: Begin, out: Path, number: signal.Signals, to_all: bool
) -> None:
    """The client was killed after 0.25 s: no video, a .part file, a server ended under it."""
    running = begin()
    if to_all:
        os.killpg(running.pid, number)
    else:
        running.send_signal(number)
    printed, said = running.communicate(timeout=30)
    assert out.read_text() == f"[{int(number)}]"
    assert (running.returncode, printed, said) == (128 + number, "the server ends\n", "")


def test_an_impatient_second_interrupt_does_not_cut_the_client_off(begin: Begin, out: Path) -> None:
    """Whoever sees nothing happen presses Ctrl-C again."""
    running = begin()
    for _ in range(3):
        os.killpg(running.pid, signal.SIGINT)
        time.sleep(0.4)
    assert running.wait(30) == 130
    assert out.read_text() == "[2, 2, 2]"


def test_a_client_that_a_signal_killed_is_a_failure(begin: Begin) -> None:
    """An exit code below zero is 256 less for a shell, by luck not 0."""
    running = begin()
    (client,) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    os.kill(int(client), signal.SIGKILL)
    assert running.wait(30) == 137


@pytest.mark.parametrize("code", [0, 1])
def test_every_demo_has_a_log_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A second one emptied the first one's log. Only a failure needs its log later."""
    folders = []

    class Server:
        grpc_url = "127.0.0.1:1"

        def __init__(self, repository: Path, *, log_dir: Path) -> None:
            assert log_dir.is_dir()
            folders.append(log_dir)

        def __enter__(self) -> "Server":
            return self

        def __exit__(self, *_: object) -> None:
            (folders[-1] / "server.log").touch()

    monkeypatch.setattr(demo, "LOG_DIR", tmp_path / "logs")
    monkeypatch.setattr(demo, "LocalServer", Server)
    monkeypatch.setattr(demo, "server_left_running", lambda: None)
    monkeypatch.setattr(demo, "stream", lambda *_: code)
    given = tmp_path / "given"
    given.touch()
    for _ in range(2):
        assert demo.run(tmp_path, given, given, tmp_path / "demo.mp4") == code
    assert len({*folders}) == 2
    assert all(folder.is_dir() == bool(code) for folder in folders)


def test_signals_mean_what_they_did_when_the_client_has_ended(tmp_path: Path) -> None:
    """Ctrl-C while the server ends would go to nobody."""
    before = [signal.getsignal(number) for number in demo.PASSED_ON]
    assert demo.wait_for(["true"]) == 0
    with pytest.raises(FileNotFoundError):
        demo.wait_for([str(tmp_path / "none")])
    assert [signal.getsignal(number) for number in demo.PASSED_ON] == before
