"""The machine: where and with what all other lines were found."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.gpu_experiment.phase import Findings
from benchmarks.report import machine

PACKAGES = ("torch", "numpy", "safetensors", "onnxruntime", "cuda-bindings", "typer")


def measure(findings: Findings, is_miniature: bool) -> None:
    findings.figure("gpu", "miniature" if is_miniature else None)
    for name, value in machine().items():
        findings.figure(name, value)
    findings.figure("kernel", platform.release())
    for package in PACKAGES:
        try:
            findings.figure(package, version(package))
        except PackageNotFoundError:
            findings.without(package, "is not installed here")
    if is_miniature:
        findings.without("driver", "no GPU is used in miniature")
        return
    import torch  # the rest of the line is true without it

    cudnn: Any = torch.backends.cudnn
    properties = torch.cuda.get_device_properties(0)
    findings.figure("gpu", properties.name)
    findings.figure("memory_gb", round(properties.total_memory / 1e9, 2))
    findings.figure("multiprocessors", properties.multi_processor_count)
    findings.figure("compute_capability", f"{properties.major}.{properties.minor}")
    findings.figure("cuda", torch.version.cuda)
    findings.figure("cudnn", cudnn.version())
    with findings.trying("driver"):
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        said = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20)
        findings.figure("driver", said.stdout.strip())
