"""What a supervisor shows of itself to Prometheus."""

import http.client
import os
import socket
import struct
import threading

import pytest

from deploy.server import process
from deploy.server.healing import Healing
from deploy.server.ports import ADDRESS, Ports, free_ports
from deploy.server.supervisor import Supervisor, serve_readiness

PAGE = """\
# HELP avatar_server_ready Whether a session would be served.
# TYPE avatar_server_ready gauge
avatar_server_ready 0
# HELP avatar_server_model_up Whether a model has a process that is well.
# TYPE avatar_server_model_up gauge
avatar_server_model_up{model="dit_stage_0"} 0
avatar_server_model_up{model="live_avatar"} 1
# HELP avatar_server_model_reloads_total Times that a model was loaded anew.
# TYPE avatar_server_model_reloads_total counter
avatar_server_model_reloads_total{model="dit_stage_0"} 2
avatar_server_model_reloads_total{model="live_avatar"} 0
# HELP avatar_server_restarts_total Times that the server was started anew.
# TYPE avatar_server_restarts_total counter
avatar_server_restarts_total 1
"""


def test_deaths_and_what_became_of_them_are_on_the_page() -> None:
    """A server that heals itself ten times a night looks well in the morning."""
    healing = Healing()
    healing.restarted()
    for _ in range(2):
        healing.reloaded("dit_stage_0")
    models = {"live_avatar": True, "dit_stage_0": False}
    assert healing.exposed(models, "dit_stage_0: its process died") == PAGE


def test_readiness_and_metrics_are_served_on_one_port() -> None:
    """Each on a port of its own would be one more to open and to guard."""
    port = free_ports().ready
    served = serve_readiness(Ports(ready=port), lambda: "not yet", lambda: PAGE)
    try:
        found = {}
        for path in ("/ready", "/alive", "/metrics", "/else"):
            connection = http.client.HTTPConnection(ADDRESS, port, timeout=5)
            connection.request("GET", path)
            answer = connection.getresponse()
            found[path] = (answer.status, answer.read().decode())
            connection.close()
    finally:
        served.shutdown()
        served.server_close()
    assert found["/ready"] == (503, '{"ready": false, "why": "not yet"}')
    assert found["/alive"][0] == 200
    assert found["/metrics"] == (200, PAGE)
    assert found["/else"][0] == 404


def test_a_probe_that_hangs_up_leaves_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    """A prober with a short patience would fill the supervisor's log with them."""
    port, asked, is_gone = free_ports().ready, threading.Event(), threading.Event()

    def why_not_ready() -> str:
        asked.set()
        is_gone.wait(5)
        return "not yet"

    served = serve_readiness(Ports(ready=port), why_not_ready, lambda: PAGE)
    served.daemon_threads = False  # so that closing waits for the answer that nobody takes
    try:
        with socket.create_connection((ADDRESS, port)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            probe.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
            assert asked.wait(5)
        is_gone.set()
    finally:
        served.shutdown()
        served.server_close()
    assert capfd.readouterr().err == ""


def test_a_process_is_watched_when_it_has_become_its_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A shell starts it. Taken for a model without a name, it would be missed for ever, and
    readiness stay red."""
    names = iter(["", "audio_tokens"])
    monkeypatch.setattr(process, "stub_pids", lambda token, pid: [os.getpid()])
    monkeypatch.setattr(process, "stub_model", lambda pid: next(names))
    supervisor = Supervisor(pid=os.getpid(), token="t", ports=Ports(), key="")
    supervisor._scan()
    assert not supervisor._models
    supervisor._scan()
    assert supervisor._models == {"audio_tokens"}
    supervisor.stop()
    supervisor.run()
