"""The chart's Envoy on this machine, in front of servers on other ports."""

import copy
import http.client
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from deploy.server.ports import Ports, free_ports
from tests.deploy.scale.rendering import MANIFESTS

ENVOY = Path(sys.executable).parent / "envoy"
START_S = 20.0


def chart_configuration() -> dict[str, Any]:
    """Envoy's configuration as the manifests have it."""
    parts = yaml.safe_load_all((MANIFESTS / "envoy.yaml").read_text())
    (text,) = (part["data"]["envoy.yaml"] for part in parts if part["kind"] == "ConfigMap")
    configuration: dict[str, Any] = yaml.safe_load(text)
    return configuration


def local_configuration(port: int, servers: Sequence[Ports]) -> dict[str, Any]:
    """The same for clients on `port` of this machine. Nothing else is changed than addresses, and
    that they are not asked of a name server."""
    configuration = copy.deepcopy(chart_configuration())
    configuration["admin"]["address"]["socket_address"]["port_value"] = 0
    resources = configuration["static_resources"]
    (listener,), (cluster,) = resources["listeners"], resources["clusters"]
    listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
    cluster["type"] = "STATIC"
    del cluster["cluster_type"]
    (group,) = cluster["load_assignment"]["endpoints"]
    group["lb_endpoints"] = [_endpoint(ports) for ports in servers]
    return configuration


def _endpoint(ports: Ports) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": ports.grpc}}
    return {"endpoint": {"address": address, "health_check_config": {"port_value": ports.ready}}}


@contextmanager
def balancing(folder: Path, servers: Sequence[Ports]) -> Iterator[str]:
    """Run Envoy before these servers; yields host:port for clients."""
    port = free_ports().grpc
    file = folder / "envoy.yaml"
    file.write_text(yaml.safe_dump(local_configuration(port, servers)))
    arguments = ["--config-path", file, "--concurrency", "1", "--disable-hot-restart"]
    with (folder / "envoy.log").open("wb") as said:
        envoy = subprocess.Popen([ENVOY, *arguments], stdout=said, stderr=said)
    try:
        deadline = time.monotonic() + START_S
        while not _answers(port):
            assert envoy.poll() is None, (folder / "envoy.log").read_text()
            assert time.monotonic() < deadline, (folder / "envoy.log").read_text()
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        envoy.terminate()
        envoy.wait(10)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/alive")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
