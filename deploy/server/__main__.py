"""The life of a Triton server on this machine.

    python -m deploy.server fetch             download and unpack the server, once
    python -m deploy.server start [options]   returns when every model is ready
    python -m deploy.server run [options]     stays; ends with the server (containers, systemd)
    python -m deploy.server check-none        fails if a server runs already
    python -m deploy.server serves            exits 0 if one runs from the repository that is named
    python -m deploy.server wait              until it is ready, for example from a script
    python -m deploy.server status            exits 0 if ready, 3 if not
    python -m deploy.server drain             stop, when the sessions that are open have ended
    python -m deploy.server stop

Environment variables GRPC_PORT, HTTP_PORT, METRICS_PORT and READY_PORT set the ports' defaults,
GRPC_ADDRESS, TLS_CERT, TLS_KEY and TLS_CA those of `start`,
and TRACE_URL that of --trace-url: a collector of traces, such as http://127.0.0.1:4318/v1/traces.
`start` leaves a supervisor beside the server (deploy/server/supervise.py). From Python
use `deploy.server.local.LocalServer`.
"""

import argparse
import os
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import NoReturn

from deploy import checkout
from deploy.checkout import REPO, default_python
from deploy.downloads import triton
from deploy.outcome import exit_code, say
from deploy.server import folder, process, supervise
from deploy.server.admin import read_key
from deploy.server.drain import drain as drain_server
from deploy.server.folder import LOG_DIR, describe, running_server
from deploy.server.health import all_ready, why_not_ready
from deploy.server.local import KILL_MARGIN_S, LocalServer
from deploy.server.ports import (
    ADDRESS,
    DEFAULT_PORTS,
    Ports,
    check_ports,
    check_trace_url,
    default_texts,
    parse_port,
    plain_ports,
)
from deploy.server.tls import TlsFiles

_NOT_READY = 3
POSE_MODEL = "pose_encoder"  # in repositories that POSE=1 asked for


def fetch(_: Namespace) -> int:
    """`RuntimeError` if it cannot be done, or if what follows it could write nothing."""
    checkout.check_writable(LOG_DIR.parent)
    home = triton.fetch(python=default_python())
    say(f"the Triton server lies in {home}")
    return 0


def check_none(given: Namespace) -> int:
    """`RuntimeError` if a server runs, on whatever ports."""
    if state := running_server(given.log_dir):
        raise RuntimeError(
            f"{describe(state)} runs already; this checkout has one at a time.\n  Fix: make stop"
        )
    return 0


def serves(given: Namespace) -> int:
    """0 if a server runs from this repository: another one in its place would be loaded by halves,
    when the next of its models has to be loaded anew. `RuntimeError` if it lacks what is wanted."""
    state = running_server(given.log_dir)
    if state is None or Path(state["repository"]).resolve() != given.repository.resolve():
        return _NOT_READY
    has_pose = (given.repository / POSE_MODEL).is_dir()
    kept = f"{describe(state)} serves {given.repository}, which stays as it is"
    kept += f", with{'' if has_pose else 'out'} {POSE_MODEL}"
    if given.pose and not has_pose:
        raise RuntimeError(f"{kept}.\n  Fix: make stop, then make serve POSE=1")
    say(f"{kept}; for another: make stop")
    return 0


def start(given: Namespace) -> int:
    _started(given)
    supervise.begin(given.log_dir)
    return 0


def run(given: Namespace) -> NoReturn:
    """Start a server and become its supervisor; SIGTERM ends both."""
    _started(given)
    supervise.become(given.log_dir)


def _started(given: Namespace) -> None:
    texts = {name: getattr(given, f"{name}_port") for name in DEFAULT_PORTS}
    numbers = {name: parse_port(text, f"the {name} port") for name, text in texts.items()}
    ports, log_dir = Ports(**numbers), given.log_dir
    tls = TlsFiles.given(given.tls_cert, given.tls_key, given.tls_ca)
    warning = plain_ports(given.address, is_encrypted=tls is not None)
    check_none(given)
    check_ports(ports, supervised=True)
    if warning:
        say(warning)
    say(f"starting Triton for {given.repository}, log in {log_dir / 'server.log'}")
    began = time.monotonic()
    server = LocalServer(
        given.repository,
        log_dir=log_dir,
        ports=ports,
        config=given.config,
        address=given.address,
        home=given.triton,
        start_timeout_s=given.start_timeout_s,
        exit_timeout_s=given.exit_timeout_s,
        outlives_us=True,
        grpc_address=given.grpc_address,
        tls=tls,
        trace_url=check_trace_url(given.trace_url),
    ).start()
    say(
        f"ready after {time.monotonic() - began:.1f} s: gRPC {server.grpc_url}, "
        f"HTTP {ADDRESS}:{ports.http}, metrics http://{ADDRESS}:{ports.metrics}/metrics, "
        f"true readiness http://{ADDRESS}:{ports.ready}/ready"
    )


def stop(given: Namespace) -> int:
    supervise.end(given.log_dir)
    if state := running_server(given.log_dir):
        process.end(state["pid"], state["token"], state["exit_timeout_s"] + KILL_MARGIN_S)
        say(f"{describe(state)} is stopped")
    else:
        say("no server runs")
    folder.clear(given.log_dir)
    return 0


def drain(given: Namespace) -> int:
    """0 if every session came to its end."""
    state = running_server(given.log_dir)
    if state is None:
        say("no server runs")
        return 0
    return 1 if drain_server(given.log_dir, state, given.limit_s) else 0


def status(given: Namespace) -> int:
    state = running_server(given.log_dir)
    if state is None:
        say("no server runs")
        return _NOT_READY
    why = why_not_ready(Ports(**state["ports"]), read_key(given.log_dir))
    if not why and not supervise.is_there(given.log_dir):
        why = "its supervisor has died, so nobody looks after it; make stop, then make serve"
    say(f"{describe(state)} is {f'not ready: {why}' if why else 'ready'}")
    return _NOT_READY if why else 0


def wait(given: Namespace) -> int:
    deadline = time.monotonic() + given.timeout_s
    while time.monotonic() < deadline:
        state = running_server(given.log_dir)
        if state and all_ready(Ports(**state["ports"]), read_key(given.log_dir)):
            return 0
        time.sleep(0.2)
    say(f"no server was ready within {given.timeout_s:g} s")
    return _NOT_READY


def _add_server_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trace-url", default=os.environ.get("TRACE_URL", ""))
    parser.add_argument("--config", default="cpu", help='configs/CONFIG.pbtxt; "" for GPUs')
    parser.add_argument("--address", default=ADDRESS, help="of gRPC, metrics, readiness")
    parser.add_argument("--grpc-address", default=os.environ.get("GRPC_ADDRESS") or ADDRESS)
    for name in ("cert", "key", "ca"):
        parser.add_argument(f"--tls-{name}", default=os.environ.get(f"TLS_{name.upper()}", ""))
    parser.add_argument("--triton", type=Path, help="an installed one, such as /opt/tritonserver")
    parser.add_argument("--start-timeout-s", type=float, default=180.0)
    parser.add_argument("--exit-timeout-s", type=int, default=5)
    for name, port in default_texts().items():
        parser.add_argument(f"--{name}-port", default=port)


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m deploy.server", description="A local Triton server."
    )
    parser.add_argument("--log-dir", type=Path, default=LOG_DIR)
    commands = parser.add_subparsers(dest="command", required=True)
    of = {}
    for command in (fetch, check_none, serves, stop, drain, status, wait, start, run):
        of[command] = commands.add_parser(command.__name__.replace("_", "-"))
        of[command].set_defaults(run=command)
    of[serves].add_argument("--pose", action="store_true", help=f"fail if it has no {POSE_MODEL}")
    of[wait].add_argument("--timeout-s", type=float, default=180.0)
    of[drain].add_argument("--limit-s", type=float, default=600.0)
    for named in (serves, start, run):
        of[named].add_argument("--repository", type=Path, default=REPO / "build/model_repository")
    for begun in (start, run):
        _add_server_options(of[begun])
    given = parser.parse_args()
    code: int = given.run(given)
    return code


if __name__ == "__main__":
    sys.exit(exit_code(main))
