"""GPUs, and what runs plans on them: what is here, and what is missing. Standard library only."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.findings import NOTE, OK, PROBLEM, Finding

MIN_DRIVER = 580
"""First driver of CUDA 13, which images from 25.08 on are built with."""
MIN_TENSORRT = 11
BINDINGS = ("tensorrt", "cuda.bindings.runtime")
Run = Callable[[Sequence[str]], str | None]
"""Runs a command; its output, or None where it is missing or fails."""


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
