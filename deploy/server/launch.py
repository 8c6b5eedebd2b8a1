"""How a local Triton server is called: its interpreter, flags and environment."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from deploy.checkout import REPO
from deploy.downloads import triton
from deploy.server import admin
from deploy.server.ports import ADDRESS, Ports
from deploy.server.tls import TlsFiles

TRACES_VARIABLE = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
"""Where the models find the collector of traces (pipeline/triton/models.py)."""
MAX_AGE_MS = 300_000
"""After so long a connection takes no new streams, and ends with its last one. So those that say
nothing end. Sessions have no limit."""
SHM_BYTES = 4 * 2**20  # of a model instance at first, and of each growth on demand


def inspect_python(python: str) -> dict[str, Any]:
    """`check_python.facts` of that interpreter; `RuntimeError` if models cannot run in it."""
    command = [python, str(REPO / "deploy" / "check_python.py"), "--json"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeError(f"{python} does not run ({error}).\n  Fix: make setup") from None
    facts: dict[str, Any] = json.loads(answer.stdout)
    problems = facts["problems"] or _numpy_problems(python, facts["numpy"])
    if problems:
        raise RuntimeError("\n".join(problems))
    return facts


def _numpy_problems(python: str, version: str | None) -> list[str]:
    if version is None:
        return [f"{python} has no numpy, which every model needs.\n  Fix: make setup"]
    if int(version.split(".")[0]) >= 2:
        return [
            f"{python} has numpy {version}; with numpy 2 this server's models become ready, then "
            "answer with empty tensors.\n"
            "  Fix: make setup (it installs numpy 1.26.4), or pip install 'numpy<2' there"
        ]
    return []


def command(
    *,
    repository: str,
    backends: str,
    ports: Ports,
    config: str,
    token: str,
    exit_timeout_s: int,
    admin_key: str,
    grpc_address: str = ADDRESS,
    tls: TlsFiles | None = None,
    home: Path | None = None,
    address: str = ADDRESS,
    trace_url: str = "",
) -> list[str]:
    """The arguments of `tritonserver`. `config` names `configs/<config>.pbtxt` of each model, or is
    empty. home: of a Triton that is installed, which may have GPUs. repository, backends: folders
    as `folder.spelled` writes them. trace_url: a collector that gets a trace of every request (OTLP
    over HTTP); "" traces nothing."""
    server = triton.HOME / triton.SERVER if home is None else home / "bin" / "tritonserver"
    without_gpus = ["--allow-gpu-metrics=false", "--pinned-memory-pool-byte-size=0"]
    traces = {
        "mode": "opentelemetry",
        "level": "TIMESTAMPS",
        "rate": "1",
        "opentelemetry,url": trace_url,
    }
    return [
        str(server),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        *([f"--model-config-name={config}"] if config else []),
        *(without_gpus if home is None else []),
        "--model-control-mode=explicit",  # models can be reloaded after a fault
        "--load-model=*",
        "--disable-auto-complete-config",  # else each model's process is started twice, to be asked
        f"--grpc-address={grpc_address}",
        f"--http-address={ADDRESS}",
        f"--metrics-address={address}",
        f"--grpc-port={ports.grpc}",
        f"--http-port={ports.http}",
        f"--metrics-port={ports.metrics}",
        f"--exit-timeout-secs={exit_timeout_s}",
        f"--grpc-max-connection-age={MAX_AGE_MS}",
        "--log-format=ISO8601",
        *admin.flags(admin_key),
        *(tls.flags() if tls else []),
        f"--backend-config=python,shm-default-byte-size={SHM_BYTES}",
        f"--backend-config=python,shm-growth-byte-size={SHM_BYTES}",
        f"--backend-config=python,shm-region-prefix-name={token}",
        *(f"--trace-config={key}={value}" for key, value in traces.items() if trace_url),
    ]


def environment(
    python: str, libpython_dir: str, admin_key: str, trace_url: str = ""
) -> dict[str, str]:
    """The server's environment variables.

    A stub runs the environment of the first `python3` on PATH, and loads the libpython that
    LD_LIBRARY_PATH names first: both must be those of `python`.
    """
    values = dict(os.environ)
    ours = str(Path(python).absolute().parent)  # not resolved: an environment's is a link
    values["PATH"] = os.pathsep.join([ours, values.get("PATH", os.defpath)])
    libraries = [libpython_dir, values.get("LD_LIBRARY_PATH", "")]
    values["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, libraries))
    values.pop("PYTHONHOME", None)
    values[admin.ENVIRONMENT] = admin_key
    values.pop(TRACES_VARIABLE, None)  # a URL goes to Triton and to its models, or to neither
    if trace_url:
        values[TRACES_VARIABLE] = trace_url
    return values
