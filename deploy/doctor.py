"""What a server needs of a machine, what is here, and how to fix what is missing.

    python -m deploy.doctor [--ports 8000,8001,8002] [--engines build/engines/demo]

On a machine without a GPU it says so and looks at the rest. The exit code is 1 if something would
keep the server from running.
"""

import argparse
import ctypes
import ctypes.util
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from deploy.checkout import REPO
from deploy.outcome import exit_code
from deploy.server.ports import default_texts, parse_port, why_taken

MIN_DRIVER = 580
"""First driver of CUDA 13, which images from 25.08 on are built with."""
MIN_TENSORRT = 11
MIN_TRITON = (2, 75)
"""26.11: earlier ones stop a gRPC stream under backpressure in silence."""
MIN_DISK_GB = 5.0
MIN_SHM_MB = 256
"""Ten Python processes of some megabytes each, and room for frames."""
MIN_MEMORY_GB = 4.0
"""Ten Python processes with their libraries, and a little room."""
NVINFER = ("libnvinfer.so", "libnvinfer.so.11", ctypes.util.find_library("nvinfer"))
"""Names of TensorRT's library; the first is there only with its development files."""
BINDINGS = (("tensorrt", "tensorrt_bindings"), ("cuda.bindings.runtime",))
"""Python modules, each with its other names."""
TRITON_VERSION_FILE = Path("/opt/tritonserver/TRITON_VERSION")
OK, NOTE, PROBLEM = "ok", "note", "PROBLEM"
Run = Callable[[Sequence[str]], str | None]
"""Runs a command; its output, or None where it is missing or fails."""


class Finding(NamedTuple):
    """One line of the report."""

    state: str
    what: str
    text: str
    fix: str = ""


class GpuFacts(NamedTuple):
    """One line of nvidia-smi."""

    number: int
    name: str
    memory_mib: int
    compute_capability: str
    driver: str

    @property
    def kind(self) -> tuple[str, str]:
        """One set of plans serves one kind."""
        return self.name, self.compute_capability


def judged(is_fine: bool, what: str, text: str, fix: str, needed: bool = True) -> Finding:
    """All is well, or the fix follows: of a problem if this is needed, else of a note."""
    if is_fine:
        return Finding(OK, what, text)
    return Finding(PROBLEM if needed else NOTE, what, text, fix)


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
    kinds = {gpu.kind for gpu in gpus}
    if len(kinds) > 1:
        text = f"of several kinds: {', '.join(sorted(name for name, _ in kinds))}"
        fix = "show the server one kind: CUDA_VISIBLE_DEVICES"
        findings.append(Finding(PROBLEM, "GPUs", text, fix))
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
    for name in NVINFER:
        try:
            number = int(ctypes.CDLL(name).getInferLibVersion()) if name else 0
        except (OSError, AttributeError):
            continue
        if number:
            return number // 10000, number // 100 % 100, number % 100
    return None


def check_tensorrt(version: tuple[int, int, int] | None, has_gpu: bool) -> Finding:
    is_new = version is not None and version[0] >= MIN_TENSORRT
    text = ".".join(map(str, version)) if version else "no libnvinfer"
    text += "" if is_new else f", wanted {MIN_TENSORRT} or newer"
    needed = has_gpu or version is not None
    return judged(is_new, "TensorRT", text, "use the image of deploy/Dockerfile", needed)


def check_bindings(modules: Sequence[Sequence[str]], has_gpu: bool) -> list[Finding]:
    """The Python modules that call CUDA and TensorRT, as this interpreter sees them."""
    findings = []
    for names in modules:
        found = any(map(_is_installed, names))
        text = "here" if found else f"not in {sys.executable}"
        fix = "use the image of deploy/Dockerfile, and its python3"
        findings.append(judged(found, f"module {names[0]}", text, fix, needed=has_gpu))
    return findings


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False


def check_plans(engines: Path, gpus: list[GpuFacts]) -> list[Finding]:
    """Whether the plans were built for these GPUs; nothing where there are none of both."""
    findings = []
    manifests = sorted(engines.glob("*.manifest.json"))
    if gpus and not manifests:
        return [Finding(NOTE, "plans", f"none in {engines}", "make engines")]
    for path in manifests:
        machine = json.loads(path.read_text())["machine"]
        name = path.name.removesuffix(".manifest.json") + ".plan"
        fits = (machine["gpu"], machine["compute_capability"]) in {gpu.kind for gpu in gpus}
        text = f"for {machine['gpu']}, sm {machine['compute_capability']}"
        if not fits:
            text += f"; here: {', '.join(sorted({gpu.name for gpu in gpus})) or 'no GPU'}"
        findings.append(judged(fits, name, text, "make engines", needed=bool(gpus)))
    return findings


def check_triton(version: str | None, has_gpu: bool, local: Path) -> Finding:
    """The image's Triton; without a GPU the one that `make fetch` unpacks does as well."""
    if version is None:
        text = f"for the CPU, in {local.name}/ (make fetch)" if local.exists() else "not here"
        fix = "GPU: use the image of deploy/Dockerfile; CPU: make fetch"
        return judged(local.exists(), "Triton", text, fix, needed=has_gpu)
    text = version.strip()
    is_new = tuple(int(part) for part in text.split(".")[:2]) >= MIN_TRITON
    text += "" if is_new else f", wanted {'.'.join(map(str, MIN_TRITON))} or newer"
    fix = "take a newer base image: TRITON_IMAGE of deploy/Dockerfile"
    return judged(is_new, "Triton", text, fix)


def check_disk(folder: Path, wanted_gb: float = MIN_DISK_GB) -> Finding:
    free = shutil.disk_usage(folder).free / 1e9
    text = f"{free:.1f} GB free in {folder}, wanted {wanted_gb:.0f}"
    if free >= wanted_gb:
        text = f"{free:.0f} GB free in {folder}"
    return judged(free >= wanted_gb, "disk", text, "make clean, or another disk")


def check_memory(engines: Path, meminfo: Path = Path("/proc/meminfo")) -> Finding:
    """Memory of the host, where every stage keeps the weights of plans that stream them."""
    found = re.search(r"MemAvailable: +(\d+) kB", meminfo.read_text() if meminfo.exists() else "")
    if found is None:
        return Finding(NOTE, "memory", f"unknown: {meminfo} does not tell")
    plans = [json.loads(path.read_text()) for path in engines.glob("*.manifest.json")]
    streamed = sum(p["weights_bytes"] for p in plans if p.get("streams_weights")) / 1e9
    free, wanted = int(found[1]) / 1e6, MIN_MEMORY_GB + streamed
    text = f"{free:.0f} GB free"
    if free >= wanted:
        return Finding(OK, "memory", text)
    text += f", wanted {wanted:.0f}" + f": {streamed:.0f} for streamed weights" * bool(streamed)
    fix = "more memory for the host or its container" + ", no --stream-weights" * bool(streamed)
    return Finding(PROBLEM, "memory", text, fix)


def check_shm(folder: Path = Path("/dev/shm"), wanted_mb: int = MIN_SHM_MB) -> Finding:
    """The Python backend's processes exchange tensors there; a container's default is 64 MB."""
    if not folder.is_dir():
        return Finding(PROBLEM, "shared memory", f"there is no {folder}", "mount a tmpfs there")
    free = shutil.disk_usage(folder).free / 1e6
    enough = free >= wanted_mb
    text = f"{free:.0f} MB free in {folder}" + ("" if enough else f", wanted {wanted_mb}")
    fix = "docker run --shm-size=1g (compose: shm_size), or remove what a dead server left there"
    return judged(enough, "shared memory", text, fix)


def check_port(port: int) -> Finding:
    reason = why_taken(port)
    text = f"taken ({reason})" if reason else "free"
    fix = "make stop, or other ports: GRPC_PORT, HTTP_PORT, METRICS_PORT, READY_PORT"
    return judged(reason is None, f"port {port}", text, fix)


def examine(ports: Sequence[int], engines: Path, run: Run = run_command) -> list[Finding]:
    """All findings, in the order of the report."""
    found = read_gpus(run)
    version = TRITON_VERSION_FILE.read_text() if TRITON_VERSION_FILE.is_file() else None
    return [
        *check_driver(found),
        *check_peers(found, run),
        check_tensorrt(tensorrt_version(), bool(found)),
        *check_bindings(BINDINGS, bool(found)),
        check_triton(version, bool(found), REPO / "build" / "tritonserver"),
        check_disk(REPO),
        check_memory(engines),
        check_shm(),
        *map(check_port, ports),
        *check_plans(engines, found),
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
    parser = argparse.ArgumentParser("python -m deploy.doctor", description="Examine this machine.")
    parser.add_argument("--ports", default=",".join(default_texts().values()))
    parser.add_argument("--engines", type=Path, default=REPO / "build" / "engines" / "demo")
    given = parser.parse_args()
    numbers = [parse_port(p, "a port of --ports", lowest=0) for p in given.ports.split(",")]
    findings = examine(numbers, given.engines)
    print(report(findings))
    return int(any(finding.state == PROBLEM for finding in findings))


if __name__ == "__main__":
    sys.exit(exit_code(main))
