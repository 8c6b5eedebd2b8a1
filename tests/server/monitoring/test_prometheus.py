"""Prometheus watches a real server that heals itself: what is asked is answered.

`make test-monitoring` runs this; it needs the programs prometheus and promtool.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from deploy.server import folder, process
from deploy.server.health import why_not_ready
from deploy.server.local import LocalServer
from deploy.server.ports import ADDRESS, Ports, free_ports
from export.repository.assemble import assemble
from tests.deploy.monitoring.expressions import ALERTS, FOLDER, expressions, metrics_in
from tests.support.programs import needs_program
from tests.support.raw_stream import IMAGE, Stream
from tests.support.waiting import happens

DEMO = Path(__file__).parents[3] / "artifacts" / "demo"
RARE = {"nv_inference_request_failure"}  # is there once a call has failed
pytestmark = needs_program("promtool")  # prometheus comes with it


@pytest.mark.parametrize(
    "command",
    [
        "check rules rules.yaml alerts.yaml",
        "check config prometheus.yaml",
        "test rules alerts.test.yaml",
    ],
)
def test_promtool_is_content(command: str) -> None:
    """An alert with an error takes all of them out; one that was never seen to fire may not."""
    done = subprocess.run(
        ["promtool", *command.split()], cwd=FOLDER, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


class Watched:
    """A Prometheus that scrapes a server twice a second."""

    def __init__(self, port: int) -> None:
        self.url = f"http://{ADDRESS}:{port}/api/v1"
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str) -> Any:
        with self.opener.open(f"{self.url}/{path}", timeout=10) as answer:
            return json.loads(answer.read())["data"]

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now."""
        query = urllib.parse.urlencode({"query": expression})
        found: list[dict[str, Any]] = self.get(f"query?{query}")["result"]
        return found

    def is_up(self) -> bool:
        try:
            return len(self.ask("up == 1")) == 2
        except OSError:
            return False


@contextmanager
def prometheus(ports: Ports, tmp_path: Path) -> Iterator[Watched]:
    """With our configuration, but for the ports and the pace."""
    config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    config["rule_files"] = [str(FOLDER / name) for name in config["rule_files"]]
    for job, port in zip(config["scrape_configs"], (ports.metrics, ports.ready), strict=True):
        job["static_configs"][0]["targets"] = [f"{ADDRESS}:{port}"]
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    own = free_ports().http
    with (tmp_path / "prometheus.log").open("wb") as log:
        running = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={tmp_path / 'prometheus.yaml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address={ADDRESS}:{own}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        watched = Watched(own)
        assert happens(watched.is_up, 30), (tmp_path / "prometheus.log").read_text()
        yield watched
    finally:
        running.terminate()
        running.wait(20)


@contextmanager
def supervised(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The state of a server as `make serve` starts it."""
    repository = assemble(DEMO, tmp_path / "repository", steps="0,1 2,3")
    numbers = [w for name, p in asdict(free_ports()).items() for w in (f"--{name}-port", str(p))]
    command = [sys.executable, "-m", "deploy.server", "--log-dir", str(tmp_path / "log")]
    begun = [*command, "start", "--repository", str(repository), *numbers]
    subprocess.run(begun, check=True, capture_output=True)
    try:
        yield json.loads((tmp_path / "log" / folder.STATE_FILE).read_text())
    finally:
        subprocess.run([*command, "stop"], check=True, capture_output=True)


def talk(state: dict[str, Any], fault: bool) -> None:
    """A session, in which a stage dies if there is to be a fault."""
    server = LocalServer(Path(state["repository"]), log_dir=Path("unused"))
    server.ports = Ports(**state["ports"])
    stream = Stream(server)
    assert stream.ask(start=True, image=IMAGE) == (0, "")
    for number in range(4):
        if fault and number == 2:
            pids = process.stub_pids(state["token"], state["pid"])
            (stage,) = [pid for pid in pids if process.stub_model(pid) == "dit_stage_1"]
            os.kill(stage, signal.SIGKILL)
        assert stream.ask(audio=np.zeros(4 * 7680, np.float32))[1] == ""
        time.sleep(1)  # figures are half a second old, and a rate needs two of them
    assert stream.ask(end=True)[1] == ""
    stream.close()


@pytest.mark.slow
@pytest.mark.triton
def test_every_expression_is_answered_from_a_server_that_healed_itself(tmp_path: Path) -> None:
    """An expression may be right for promtool and match nothing of what a server shows."""
    with supervised(tmp_path) as state, prometheus(Ports(**state["ports"]), tmp_path) as watched:
        time.sleep(1.5)
        assert watched.get("rules")["groups"]
        talk(state, fault=True)
        talk(state, fault=False)
        assert happens(lambda: not why_not_ready(Ports(**state["ports"]), key=""), 30)
        time.sleep(2)
        names = {alert["alert"] for alert in ALERTS}
        for name, expression in expressions().items():
            found = watched.ask(expression)
            assert found or name in names, f"{name} has no data: {expression}"
            for metric in metrics_in(expression) - RARE:
                assert watched.ask(metric), f"{name}: there is no {metric}"
        assert figure(watched, 'sum(avatar_replays_total{lost="dit_stage_1"})') == 1
        assert figure(watched, 'avatar_server_model_reloads_total{model="dit_stage_1"}') == 1
        assert figure(watched, "avatar_sessions_ended_total") == 2
        assert figure(watched, "avatar_server_ready") == 1
        bubbles = watched.ask("avatar:station_bubble:ratio")
        assert all(0 <= float(one["value"][1]) <= 1 for one in bubbles)
        busy = watched.ask("avatar:station_busy:ratio")
        assert all(float(one["value"][1]) <= 1.01 for one in busy)
        assert watched.ask('ALERTS{alertstate="firing"}') == []


def figure(watched: Watched, expression: str) -> float:
    """The one value of an expression."""
    (found,) = watched.ask(expression)
    return float(found["value"][1])
