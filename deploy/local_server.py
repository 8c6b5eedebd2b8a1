"""The life of a Triton server on this machine.

    python -m deploy.local_server fetch             download and unpack the server, once
    python -m deploy.local_server start [options]   returns when every model is ready
    python -m deploy.local_server wait              until it is ready, for example from a script
    python -m deploy.local_server status            exits 0 if ready, 3 if not
    python -m deploy.local_server stop

Environment variables GRPC_PORT, HTTP_PORT and METRICS_PORT set the ports' defaults. From Python
use `LocalServer`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from deploy import (
    checkout,
    log_folder,
    plain_paths,
    server_command,
    server_process,
    triton_wheel,
)
from deploy.log_folder import STATE_FILE, describe
from deploy.outcome import exit_code, say
from deploy.server import LocalServer
from deploy.server_command import DEFAULT_PORTS, Ports, parse_port
from deploy.server_health import all_ready

__all__ = ["LOG_DIR", "LocalServer", "Ports", "running_server"]

LOG_DIR = triton_wheel.REPO / "build" / "server"
_NOT_READY = 3


def running_server(log_dir: Path = LOG_DIR) -> dict | None:
    """What is known of the server that `start` left running: pid, token, ports, repository."""
    return log_folder.running_server(log_dir)


def fetch() -> None:
    """`RuntimeError` if it cannot be done, or if what follows it could write nothing."""
    checkout.check_writable(LOG_DIR.parent)
    home = triton_wheel.fetch(python=server_command.default_python())
    say(f"the Triton server lies in {home}")


def check_none(log_dir: Path) -> None:
    """`RuntimeError` if a server runs: a checkout has one at a time, on whatever ports."""
    if state := running_server(log_dir):
        raise RuntimeError(
            f"{describe(state)} runs already; this checkout has one at a time.\n  Fix: make stop"
        )


def start(repository: Path, config: str, ports: Ports, log_dir: Path) -> None:
    check_none(log_dir)
    say(f"starting Triton for {repository}, log in {log_dir / 'server.log'}")
    began = time.monotonic()
    server = LocalServer(repository, log_dir=log_dir, ports=ports, config=config, outlives_us=True)
    server.start()
    say(
        f"ready after {time.monotonic() - began:.1f} s: gRPC {server.grpc_url}, "
        f"HTTP {server.http_url}, metrics {server.metrics_url}"
    )


def stop(log_dir: Path) -> None:
    if state := running_server(log_dir):
        timeout_s = state["exit_timeout_s"] + 3
        server_process.end(state["pid"], state["token"], timeout_s)
        say(f"{describe(state)} is stopped")
    else:
        say("no server runs")
    (log_dir / STATE_FILE).unlink(missing_ok=True)
    plain_paths.remove_links(log_dir)


def status(log_dir: Path) -> int:
    state = running_server(log_dir)
    if state is None:
        say("no server runs")
        return _NOT_READY
    ready = all_ready(Ports(**state["ports"]))
    say(f"{describe(state)} is {'ready' if ready else 'not ready'}")
    return 0 if ready else _NOT_READY


def wait(log_dir: Path, timeout_s: float) -> int:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        state = running_server(log_dir)
        if state and all_ready(Ports(**state["ports"])):
            return 0
        time.sleep(0.2)
    say(f"no server was ready within {timeout_s:g} s")
    return _NOT_READY


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A local Triton server.")
    parser.add_argument("--log-dir", type=Path, default=LOG_DIR)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch")
    commands.add_parser("check-none", help="fail if a server runs already")
    commands.add_parser("stop")
    commands.add_parser("status")
    waiting = commands.add_parser("wait")
    waiting.add_argument("--timeout-s", type=float, default=180.0)
    starting = commands.add_parser("start")
    starting.add_argument(
        "--repository", type=Path, default=triton_wheel.REPO / "build" / "model_repository"
    )
    starting.add_argument("--config", default="cpu")
    for name, port in DEFAULT_PORTS.items():
        default = os.environ.get(f"{name.upper()}_PORT") or str(port)
        starting.add_argument(f"--{name}-port", default=default)
    return parser.parse_args()


def _run(given: argparse.Namespace) -> int:
    if given.command == "fetch":
        fetch()
    elif given.command == "start":
        texts = {name: getattr(given, f"{name}_port") for name in DEFAULT_PORTS}
        ports = {name: parse_port(text, f"the {name} port") for name, text in texts.items()}
        start(given.repository, given.config, Ports(**ports), given.log_dir)
    elif given.command == "check-none":
        check_none(given.log_dir)
    elif given.command == "stop":
        stop(given.log_dir)
    elif given.command == "status":
        return status(given.log_dir)
    else:
        return wait(given.log_dir, given.timeout_s)
    return 0


def main() -> int:
    return exit_code(lambda: _run(_arguments()))


if __name__ == "__main__":
    sys.exit(main())
