"""What a server needs of a machine, what is here, and how to fix what is missing.

    python -m deploy.doctor [--ports 8000,8001,8002] [--engines build/engines/demo]

On a machine without a GPU it says so and looks at the rest. The exit code is 1 if something would
keep the server from running. Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.checkout import REPO
from deploy.findings import NOTE, OK, PROBLEM, Finding, report
from deploy.gpu_findings import (
    BINDINGS,
    Run,
    check_bindings,
    check_driver,
    check_peers,
    check_plans,
    check_tensorrt,
    read_gpus,
    run_command,
    tensorrt_version,
)
from deploy.outcome import exit_code
from deploy.server_command import DEFAULT_PORTS, parse_port

TRITON_VERSION_FILE = Path("/opt/tritonserver/TRITON_VERSION")
MIN_TRITON = (2, 75)
"""26.11: earlier ones stop a gRPC stream under backpressure in silence."""
MIN_DISK_GB = 5.0
MIN_SHM_MB = 256
"""Ten Python processes of some megabytes each, and room for frames."""


def check_triton(version: str | None, has_gpu: bool, local: Path) -> Finding:
    """The image's Triton; without a GPU the one that `make fetch` unpacks does as well."""
    wanted = ".".join(map(str, MIN_TRITON))
    if version is not None:
        numbers = tuple(int(part) for part in version.strip().split(".")[:2])
        if numbers >= MIN_TRITON:
            return Finding(what="Triton", state=OK, text=version.strip())
        text = f"{version.strip()}, wanted {wanted} or newer"
        fix = "take a newer base image: TRITON_IMAGE of deploy/Dockerfile"
        return Finding(what="Triton", state=PROBLEM, text=text, fix=fix)
    if local.exists():
        return Finding(what="Triton", state=OK, text=f"for the CPU, in {local.name}/ (make fetch)")
    state = PROBLEM if has_gpu else NOTE
    fix = "GPU: use the image of deploy/Dockerfile; CPU: make fetch"
    return Finding(what="Triton", state=state, text="not here", fix=fix)


def check_disk(folder: Path, wanted_gb: float = MIN_DISK_GB) -> Finding:
    free = shutil.disk_usage(folder).free / 1e9
    if free >= wanted_gb:
        return Finding(what="disk", state=OK, text=f"{free:.0f} GB free in {folder}")
    text = f"{free:.1f} GB free in {folder}, wanted {wanted_gb:.0f}"
    return Finding(what="disk", state=PROBLEM, text=text, fix="make clean, or another disk")


def check_shm(folder: Path = Path("/dev/shm"), wanted_mb: int = MIN_SHM_MB) -> Finding:
    """The Python backend's processes exchange tensors there; a container's default is 64 MB."""
    if not folder.is_dir():
        fix = "mount a tmpfs there"
        return Finding(what="shared memory", state=PROBLEM, text=f"there is no {folder}", fix=fix)
    free = shutil.disk_usage(folder).free / 1e6
    if free >= wanted_mb:
        return Finding(what="shared memory", state=OK, text=f"{free:.0f} MB free in {folder}")
    text = f"{free:.0f} MB free in {folder}, wanted {wanted_mb}"
    fix = "docker run --shm-size=1g (compose: shm_size), or remove what a dead server left there"
    return Finding(what="shared memory", state=PROBLEM, text=text, fix=fix)


def check_port(port: int, host: str = "127.0.0.1") -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            text = f"taken ({error.strerror})"
            fix = "make stop, or other ports: GRPC_PORT, HTTP_PORT, METRICS_PORT"
            return Finding(what=f"port {port}", state=PROBLEM, text=text, fix=fix)
    return Finding(what=f"port {port}", state=OK, text="free")


def examine(ports: Sequence[int], engines: Path, run: Run = run_command) -> list[Finding]:
    """All findings, in the order of the report."""
    gpus = read_gpus(run)
    version = TRITON_VERSION_FILE.read_text() if TRITON_VERSION_FILE.is_file() else None
    return [
        *check_driver(gpus),
        *check_peers(gpus, run),
        check_tensorrt(tensorrt_version(), bool(gpus)),
        *check_bindings(BINDINGS, bool(gpus)),
        check_triton(version, bool(gpus), REPO / "build" / "tritonserver"),
        check_disk(REPO),
        check_shm(),
        *map(check_port, ports),
        *check_plans(engines, gpus),
    ]


def main() -> int:
    ports = [os.environ.get(f"{n.upper()}_PORT") or str(d) for n, d in DEFAULT_PORTS.items()]
    parser = argparse.ArgumentParser(description="Examine this machine.")
    parser.add_argument("--ports", default=",".join(ports))
    parser.add_argument("--engines", type=Path, default=REPO / "build" / "engines" / "demo")
    given = parser.parse_args()
    numbers = [parse_port(p, "a port of --ports", lowest=0) for p in given.ports.split(",")]
    findings = examine(numbers, given.engines)
    print(report(findings))
    return int(any(finding.state == PROBLEM for finding in findings))


if __name__ == "__main__":
    sys.exit(exit_code(main))
