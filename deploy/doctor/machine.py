"""What any server needs of a machine: Triton, disk, shared memory, ports."""

import shutil
from pathlib import Path

from deploy.doctor.findings import OK, PROBLEM, Finding, judged
from deploy.server.ports import why_taken

MIN_TRITON = (2, 75)
"""26.11: earlier ones stop a gRPC stream under backpressure in silence."""
MIN_DISK_GB = 5.0
MIN_SHM_MB = 256
"""Ten Python processes of some megabytes each, and room for frames."""


def check_triton(version: str | None, has_gpu: bool, local: Path) -> Finding:
    """The image's Triton; without a GPU the one that `make fetch` unpacks does as well."""
    if version is None:
        text = f"for the CPU, in {local.name}/ (make fetch)" if local.exists() else "not here"
        fix = "GPU: use the image of deploy/Dockerfile; CPU: make fetch"
        return judged(local.exists(), "Triton", text, fix, needed=has_gpu)
    text = version.strip()
    if tuple(int(part) for part in text.split(".")[:2]) >= MIN_TRITON:
        return Finding(OK, "Triton", text)
    text += f", wanted {'.'.join(map(str, MIN_TRITON))} or newer"
    fix = "take a newer base image: TRITON_IMAGE of deploy/Dockerfile"
    return Finding(PROBLEM, "Triton", text, fix)


def check_disk(folder: Path, wanted_gb: float = MIN_DISK_GB) -> Finding:
    free = shutil.disk_usage(folder).free / 1e9
    if free >= wanted_gb:
        return Finding(OK, "disk", f"{free:.0f} GB free in {folder}")
    text = f"{free:.1f} GB free in {folder}, wanted {wanted_gb:.0f}"
    return Finding(PROBLEM, "disk", text, "make clean, or another disk")


def check_shm(folder: Path = Path("/dev/shm"), wanted_mb: int = MIN_SHM_MB) -> Finding:
    """The Python backend's processes exchange tensors there; a container's default is 64 MB."""
    if not folder.is_dir():
        return Finding(PROBLEM, "shared memory", f"there is no {folder}", "mount a tmpfs there")
    free = shutil.disk_usage(folder).free / 1e6
    text = f"{free:.0f} MB free in {folder}"
    if free >= wanted_mb:
        return Finding(OK, "shared memory", text)
    fix = "docker run --shm-size=1g (compose: shm_size), or remove what a dead server left there"
    return Finding(PROBLEM, "shared memory", f"{text}, wanted {wanted_mb}", fix)


def check_port(port: int) -> Finding:
    reason = why_taken(port)
    text = f"taken ({reason})" if reason else "free"
    fix = "make stop, or other ports: GRPC_PORT, HTTP_PORT, METRICS_PORT"
    return judged(reason is None, f"port {port}", text, fix)
