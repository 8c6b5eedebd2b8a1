"""GPUs, and what runs plans on them: what is here, and what is missing."""

import ctypes
import ctypes.util
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from deploy.doctor.findings import NOTE, OK, PROBLEM, Finding, judged

MIN_DRIVER = 580
"""First driver of CUDA 13, which images from 25.08 on are built with."""
MIN_TENSORRT = 11
BINDINGS = ("tensorrt", "cuda.bindings.runtime")
Run = Callable[[Sequence[str]], str | None]
"""Runs a command; its output, or None where it is missing or fails."""


class GpuFacts(NamedTuple):
    """One line of nvidia-smi."""

    number: int
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
            number, name, memory, capability, driver = cells
            gpus.append(GpuFacts(int(number), name, int(float(memory)), capability, driver))
    return gpus


def check_driver(gpus: list[GpuFacts]) -> list[Finding]:
    if not gpus:
        fix = "for the GPU deployment install the driver and, for containers, its container toolkit"
        text = "no NVIDIA driver answers: only configs/cpu.pbtxt can be served"
        return [Finding(NOTE, "GPUs", text, fix)]
    text = driver = gpus[0].driver
    new = int(driver.split(".")[0]) >= MIN_DRIVER
    text += "" if new else f", wanted {MIN_DRIVER} or newer (CUDA 13)"
    findings = [judged(new, "driver", text, f"install driver {MIN_DRIVER} or newer")]
    for gpu in gpus:
        text = f"{gpu.name}, {gpu.memory_mib / 1024:.0f} GiB, sm {gpu.compute_capability}"
        findings.append(Finding(OK, f"GPU {gpu.number}", text))
    if len(set(map(_kind, gpus))) > 1:  # one set of plans serves one kind of GPU
        names = ", ".join(sorted(name for name, _ in set(map(_kind, gpus))))
        fix = "show the server one kind: CUDA_VISIBLE_DEVICES"
        findings.append(Finding(PROBLEM, "GPUs", f"of several kinds: {names}", fix))
    return findings


def check_peers(gpus: list[GpuFacts], run: Run) -> list[Finding]:
    """Peer access is not needed: between stages travel latents of half a megabyte, by the host."""
    if len(gpus) < 2:
        return []
    matrix = run(["nvidia-smi", "topo", "-p2p", "r"])
    if matrix is None:
        return [Finding(NOTE, "peer access", "unknown (not needed)")]
    rows = [line.split() for line in matrix.splitlines() if line.strip().startswith("GPU")]
    pairs = [cell for row in rows for cell in row[1:] if cell in ("OK", "NS", "CNS", "GNS", "TNS")]
    text = f"{pairs.count('OK')} of {len(pairs)} directions (not needed)"
    return [Finding(OK, "peer access", text)]


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
        return judged(False, "TensorRT", f"no libnvinfer, {wanted}", fix, needed=has_gpu)
    text = ".".join(map(str, version))
    if version[0] >= MIN_TENSORRT:
        return Finding(OK, "TensorRT", text)
    return Finding(PROBLEM, "TensorRT", f"{text}, {wanted}", fix)


def check_bindings(names: Sequence[str], has_gpu: bool) -> list[Finding]:
    """The Python modules that call CUDA and TensorRT, as this interpreter sees them."""
    findings = []
    for name in names:
        try:
            found = importlib.util.find_spec(name) is not None
        except ModuleNotFoundError:  # of the package that it is in
            found = False
        text = "here" if found else f"not in {sys.executable}"
        fix = "use the image of deploy/Dockerfile, and its python3"
        findings.append(judged(found, f"module {name}", text, fix, needed=has_gpu))
    return findings


def check_plans(engines: Path, gpus: list[GpuFacts]) -> list[Finding]:
    """Whether the plans were built for these GPUs; nothing where there are none of both."""
    findings = []
    manifests = sorted(engines.glob("*.manifest.json"))
    if gpus and not manifests:
        return [Finding(NOTE, "plans", f"none in {engines}", "make engines")]
    for path in manifests:
        machine = json.loads(path.read_text())["machine"]
        name = path.name.removesuffix(".manifest.json") + ".plan"
        fits = (machine["gpu"], machine["compute_capability"]) in map(_kind, gpus)
        text = f"for {machine['gpu']}, sm {machine['compute_capability']}"
        if not fits:
            text += f"; here: {', '.join(sorted({gpu.name for gpu in gpus})) or 'no GPU'}"
        findings.append(judged(fits, name, text, "make engines", needed=bool(gpus)))
    return findings


def _kind(gpu: GpuFacts) -> tuple[str, str]:
    return gpu.name, gpu.compute_capability
