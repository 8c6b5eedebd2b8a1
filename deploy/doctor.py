"""What a server needs of a machine, what is here, and how to fix what is missing.

    python -m deploy.doctor [--ports 8000,8001,8002] [--engines build/engines/demo]

On a machine without a GPU it says so and looks at the rest. The exit code is 1 if something would
keep the server from running. Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
TRITON_VERSION_FILE = Path("/opt/tritonserver/TRITON_VERSION")
MIN_DRIVER = 580
"""First driver of CUDA 13, which images from 25.08 on are built with."""
MIN_TRITON = (2, 75)
"""26.11: earlier ones stop a gRPC stream under backpressure in silence."""
MIN_TENSORRT = 11
BINDINGS = ("tensorrt", "cuda.bindings.runtime")
MIN_DISK_GB = 5.0
MIN_SHM_MB = 256
"""Ten Python processes of some megabytes each, and room for frames."""
OK, NOTE, PROBLEM = "ok", "note", "PROBLEM"
Run = Callable[[Sequence[str]], str | None]
"""Runs a command; its output, or None where it is missing or fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report."""

    what: str
    state: str
    text: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """One line of nvidia-smi."""

    index: int
    name: str
    memory_mib: int
    compute_capability: str
    driver: str


def run_command(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def read_gpus(run: Run) -> list[GpuFacts]:
    """What nvidia-smi lists; empty without a driver."""
    query = "index,name,memory.total,compute_cap,driver_version"
    text = run(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"])
    gpus = []
    for line in (text or "").splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == 5 and cells[0].isdigit():
            index, name, memory, capability, driver = cells
            gpus.append(
                GpuFacts(
                    index=int(index),
                    name=name,
                    memory_mib=int(float(memory)),
                    compute_capability=capability,
                    driver=driver,
                )
            )
    return gpus


def check_driver(gpus: list[GpuFacts]) -> list[Finding]:
    if not gpus:
        fix = "for the GPU deployment install the driver and, for containers, its container toolkit"
        text = "no NVIDIA driver answers: only configs/cpu.pbtxt can be served"
        return [Finding(what="GPUs", state=NOTE, text=text, fix=fix)]
    findings = [
        Finding(
            what=f"GPU {gpu.index}",
            state=OK,
            text=f"{gpu.name}, {gpu.memory_mib / 1024:.0f} GiB, sm {gpu.compute_capability}",
        )
        for gpu in gpus
    ]
    driver = gpus[0].driver
    new = int(driver.split(".")[0]) >= MIN_DRIVER
    text = f"{driver}" if new else f"{driver}, wanted {MIN_DRIVER} or newer (CUDA 13)"
    fix = "" if new else f"install driver {MIN_DRIVER} or newer"
    return [
        Finding(what="driver", state=OK if new else PROBLEM, text=text, fix=fix),
        *findings,
        *check_alike(gpus),
    ]


def check_alike(gpus: list[GpuFacts]) -> list[Finding]:
    """One set of plans serves one kind of GPU."""
    kinds = {(gpu.name, gpu.compute_capability) for gpu in gpus}
    if len(kinds) == 1:
        return []
    names = ", ".join(sorted(name for name, _ in kinds))
    fix = "show the server one kind: CUDA_VISIBLE_DEVICES"
    return [Finding(what="GPUs", state=PROBLEM, text=f"of several kinds: {names}", fix=fix)]


def check_peers(gpus: list[GpuFacts], run: Run) -> list[Finding]:
    """Peer access is not needed: between stages travel latents of half a megabyte, by the host."""
    if len(gpus) < 2:
        return []
    matrix = run(["nvidia-smi", "topo", "-p2p", "r"])
    if matrix is None:
        return [Finding(what="peer access", state=NOTE, text="unknown (not needed)")]
    rows = [line.split() for line in matrix.splitlines() if line.strip().startswith("GPU")]
    pairs = [cell for row in rows for cell in row[1:] if cell in ("OK", "NS", "CNS", "GNS", "TNS")]
    text = f"{pairs.count('OK')} of {len(pairs)} directions (not needed)"
    return [Finding(what="peer access", state=OK, text=text)]


def tensorrt_version() -> tuple[int, int, int] | None:
    """Of the libnvinfer that the loader finds."""
    for name in ("libnvinfer.so", "libnvinfer.so.11", ctypes.util.find_library("nvinfer")):
        try:
            number = int(ctypes.CDLL(name).getInferLibVersion()) if name else 0
        except (OSError, AttributeError):
            continue
        if number:
            return number // 10000, number // 100 % 100, number % 100
    return None


def check_tensorrt(version: tuple[int, int, int] | None, has_gpu: bool) -> Finding:
    wanted = f"wanted {MIN_TENSORRT} or newer"
    fix = "use the image of deploy/Dockerfile"
    if version is None:
        state = PROBLEM if has_gpu else NOTE
        return Finding(what="TensorRT", state=state, text=f"no libnvinfer, {wanted}", fix=fix)
    text = ".".join(map(str, version))
    if version[0] < MIN_TENSORRT:
        return Finding(what="TensorRT", state=PROBLEM, text=f"{text}, {wanted}", fix=fix)
    return Finding(what="TensorRT", state=OK, text=text)


def check_bindings(names: Sequence[str], has_gpu: bool) -> list[Finding]:
    """The Python modules that call CUDA and TensorRT, as this interpreter sees them."""
    findings = []
    for name in names:
        try:
            found = importlib.util.find_spec(name) is not None
        except ModuleNotFoundError:  # of the package that it is in
            found = False
        state = OK if found else PROBLEM if has_gpu else NOTE
        text = "here" if found else f"not in {sys.executable}"
        fix = "" if found else "use the image of deploy/Dockerfile, and its python3"
        findings.append(Finding(what=f"module {name}", state=state, text=text, fix=fix))
    return findings


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


def check_plans(engines: Path, gpus: list[GpuFacts]) -> list[Finding]:
    """Whether the plans were built for these GPUs; nothing where there are none of both."""
    findings = []
    manifests = sorted(engines.glob("*.manifest.json"))
    if gpus and not manifests:
        return [Finding(what="plans", state=NOTE, text=f"none in {engines}", fix="make engines")]
    for path in manifests:
        machine = json.loads(path.read_text())["machine"]
        name = path.name.removesuffix(".manifest.json") + ".plan"
        made = f"{machine['gpu']}, sm {machine['compute_capability']}"
        fits = any((machine["gpu"], machine["compute_capability"]) == _kind(gpu) for gpu in gpus)
        state = OK if fits else PROBLEM if gpus else NOTE
        here = "no GPU" if not gpus else ", ".join(sorted({gpu.name for gpu in gpus}))
        text = f"for {made}" if fits else f"for {made}; here: {here}"
        fix = "" if fits else "make engines"
        findings.append(Finding(what=name, state=state, text=text, fix=fix))
    return findings


def _kind(gpu: GpuFacts) -> tuple[str, str]:
    return gpu.name, gpu.compute_capability


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


def report(findings: Sequence[Finding]) -> str:
    width = max(len(finding.what) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:<8} {finding.what:<{width}}  {finding.text}")
        if finding.fix:
            lines.append(f"{'':<8} {'':<{width}}  -> {finding.fix}")
    return "\n".join(lines)


def main() -> int:
    ports = [os.environ.get(f"{n}_PORT", d) for n, d in (("HTTP", "8000"), ("GRPC", "8001"))]
    ports.append(os.environ.get("METRICS_PORT", "8002"))
    parser = argparse.ArgumentParser(description="Examine this machine.")
    parser.add_argument("--ports", default=",".join(ports))
    parser.add_argument("--engines", type=Path, default=REPO / "build" / "engines" / "demo")
    given = parser.parse_args()
    findings = examine([int(port) for port in given.ports.split(",")], given.engines)
    print(report(findings))
    return int(any(finding.state == PROBLEM for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
