"""What is checked before a local Triton server starts, and what is said when it cannot."""

import json
import os
import socket
from pathlib import Path

import pytest

from deploy.server import launch, process
from deploy.server import log as server_log
from deploy.server import ports as tcp
from deploy.server.local import LocalServer
from deploy.server.ports import Ports
from tests.support.programs import needs_fetched_server


def fake_python(folder: Path, **facts: object) -> str:
    """An interpreter that gives these answers to the check."""
    answer = {"version": "3.12", "libpython_dir": "/lib", "numpy": "1.26.4", "problems": []}
    script = folder / "python3"
    script.write_text(f"#!/bin/sh\necho '{json.dumps(answer | facts)}'\n")
    script.chmod(0o755)
    return str(script)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"numpy": "2.3.1"}, r"has numpy 2\.3\.1;.*empty tensors"),
        ({"numpy": None}, "has no numpy"),
        ({"problems": ["this Python is too old"]}, "this Python is too old"),
    ],
)
def test_unsuitable_python_is_refused_in_words(
    tmp_path: Path, facts: dict[str, object], words: str
) -> None:
    """With numpy 2 nothing fails: models become ready and answer nothing."""
    with pytest.raises(RuntimeError, match=words):
        launch.inspect_python(fake_python(tmp_path, **facts))


def test_missing_interpreter_is_refused_in_words(tmp_path: Path) -> None:
    """An environment whose base Python was upgraded away no longer runs."""
    with pytest.raises(RuntimeError, match="make setup"):
        launch.inspect_python(str(tmp_path / "python3"))


@needs_fetched_server
def test_python_without_a_stub_is_refused_in_words(tmp_path: Path) -> None:
    """Triton would run the stub of another version, which cannot load the interpreter."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.pbtxt").write_text("")
    server = LocalServer(tmp_path, log_dir=tmp_path, python=fake_python(tmp_path, version="3.9"))
    with pytest.raises(RuntimeError, match=r"no helper for Python 3\.9"):
        server.start()


def test_empty_repository_is_refused_in_words(tmp_path: Path) -> None:
    """Triton starts happily with no model at all."""
    with pytest.raises(RuntimeError, match="make repository"):
        LocalServer(tmp_path, log_dir=tmp_path).start()


def test_taken_port_is_seen_before_the_start() -> None:
    """The models take seconds to load before Triton finds the port taken."""
    ports = tcp.free_ports()
    taken = socket.create_server((tcp.ADDRESS, ports.http))
    with taken, pytest.raises(RuntimeError, match=f"http port {ports.http}"):
        tcp.check_ports(ports)
    tcp.check_ports(ports)


@pytest.mark.parametrize("wrong", [{"grpc": 0}, {"http": 65536}, {"metrics": 8001}])
def test_impossible_ports_are_refused(wrong: dict[str, int]) -> None:
    """Triton listens on a random port for 0, which no client would find."""
    with pytest.raises(ValueError, match="port"):
        Ports(**wrong)


def test_log_without_error_lines_shows_its_end(tmp_path: Path) -> None:
    """A loader error ("cannot open shared object file") stands there without a log level."""
    log = tmp_path / "server.log"
    log.write_text("first\n" * 50 + "tritonserver: libz.so.1: cannot open shared object file\n")
    assert server_log.failure(log).endswith("cannot open shared object file")
    assert len(server_log.failure(log).splitlines()) < 50


def test_process_that_bears_another_token_is_not_ours() -> None:
    """After a crash the pid in the file may belong to somebody else's process by now."""
    assert not process.is_alive(os.getpid(), "avatar_0123456789ab_")


def test_traces_are_sent_by_triton_and_its_models_or_by_neither() -> None:
    """Spans of blocks without those of their requests would hang in the air."""
    given = {"repository": "r", "backends": "b", "ports": Ports(), "config": "cpu"}
    given["admin_key"] = "key"
    plain = launch.command(**given, token="t", exit_timeout_s=1)  # type: ignore[arg-type]
    url = "http://127.0.0.1:4318/v1/traces"
    traced = launch.command(**given, token="t", exit_timeout_s=1, trace_url=url)  # type: ignore[arg-type]
    assert [word for word in plain if word.startswith("--trace")] == []
    assert f"--trace-config=opentelemetry,url={url}" in traced
    assert launch.TRACES_VARIABLE not in launch.environment("/usr/bin/python3", "/lib", "key")
    assert launch.environment("/usr/bin/python3", "/lib", "key", url)[launch.TRACES_VARIABLE] == url
