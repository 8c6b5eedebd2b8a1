"""How a local Triton server is called: its ports, interpreter, flags and environment."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy import triton_wheel

DEFAULT_PORTS = {"grpc": 8001, "http": 8000, "metrics": 8002}
ADDRESS = "127.0.0.1"  # HTTP and metrics have no TLS: the local server never listens beyond this
SHM_DEFAULT_BYTES = 4 * 2**20  # per model instance; grows on demand
SHM_GROWTH_BYTES = 4 * 2**20
_CHECK = Path(__file__).with_name("check_python.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """TCP ports on the loopback interface."""

    grpc: int = DEFAULT_PORTS["grpc"]
    http: int = DEFAULT_PORTS["http"]
    metrics: int = DEFAULT_PORTS["metrics"]

    def __post_init__(self) -> None:
        for name, port in asdict(self).items():
            if not 1 <= port <= 65535:
                raise ValueError(f"{name} port {port} is not in 1..65535")
        if len(set(asdict(self).values())) < 3:
            raise ValueError(f"the three ports must differ, got {asdict(self)}")


def parse_port(text: str, setting: str, lowest: int = 1) -> int:
    """A port that somebody wrote; `ValueError` names the setting that it stood in."""
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not lowest <= port <= 65535:
        raise ValueError(f"{setting} is {text[:80]!r}, wanted a port {lowest}..65535")
    return port


def free_ports() -> Ports:
    """Three ports that nobody listens on, below the range the system hands to clients."""
    found: list[int] = []
    while len(found) < 3:
        port = random.randint(20000, 32000)
        if port not in found and not _is_taken(port):
            found.append(port)
    return Ports(grpc=found[0], http=found[1], metrics=found[2])


def check_ports(ports: Ports) -> None:
    """`RuntimeError` with the fix if somebody listens on one of the ports."""
    taken = {name: port for name, port in asdict(ports).items() if _is_taken(port)}
    if taken:
        which = " and ".join(f"{name} port {port}" for name, port in taken.items())
        free = asdict(ports) | {name: asdict(free_ports())[name] for name in taken}
        preset = os.environ.get("PRESET", "demo")
        fix = [] if preset == "demo" else [f"PRESET={preset}"]
        fix += [f"{name.upper()}_PORT={port}" for name, port in free.items()]
        raise RuntimeError(
            f"another program listens on {which} of {ADDRESS}.\n  Fix: make serve {' '.join(fix)}"
        )


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return True
    return False


def default_python() -> str:
    """The virtual environment's interpreter that runs the models.

    The running one if it belongs to an environment, else `.venv`'s, else the running one.
    """
    ours = triton_wheel.REPO / ".venv" / "bin" / "python3"
    if sys.prefix == sys.base_prefix and ours.exists():
        return str(ours)
    return sys.executable


def inspect_python(python: str) -> dict:
    """`check_python.facts` of that interpreter; `RuntimeError` if models cannot run in it."""
    try:
        answer = subprocess.run(
            [python, str(_CHECK), "--json"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeError(f"{python} does not run ({error}).\n  Fix: make setup") from None
    facts = json.loads(answer.stdout)
    problems = list(facts["problems"])
    if not problems and (sentence := _numpy_problem(python, facts["numpy"])):
        problems.append(sentence)
    if problems:
        raise RuntimeError("\n".join(problems))
    return facts


def _numpy_problem(python: str, version: str | None) -> str | None:
    if version is None:
        return f"{python} has no numpy, which every model needs.\n  Fix: make setup"
    if int(version.split(".")[0]) >= 2:
        return (
            f"{python} has numpy {version}; with numpy 2 this server's models become ready, then "
            "answer with empty tensors.\n"
            "  Fix: make setup (it installs numpy 1.26.4), or pip install 'numpy<2' there"
        )
    return None


def command(
    *,
    home: Path,
    repository: str,
    backends: str,
    ports: Ports,
    config: str,
    token: str,
    exit_timeout_s: int,
) -> list[str]:
    """The arguments of `tritonserver`. `config` names `configs/<config>.pbtxt` of each model.

    repository, backends: folders as `plain_paths.spelled` writes them.
    """
    return [
        str(home / triton_wheel.SERVER),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        f"--model-config-name={config}",
        "--model-control-mode=explicit",  # models can be reloaded after a fault
        "--load-model=*",
        f"--grpc-address={ADDRESS}",
        f"--http-address={ADDRESS}",
        f"--metrics-address={ADDRESS}",
        f"--grpc-port={ports.grpc}",
        f"--http-port={ports.http}",
        f"--metrics-port={ports.metrics}",
        "--allow-gpu-metrics=false",
        "--pinned-memory-pool-byte-size=0",
        f"--exit-timeout-secs={exit_timeout_s}",
        "--log-format=ISO8601",
        f"--backend-config=python,shm-default-byte-size={SHM_DEFAULT_BYTES}",
        f"--backend-config=python,shm-growth-byte-size={SHM_GROWTH_BYTES}",
        f"--backend-config=python,shm-region-prefix-name={token}",
    ]


def environment(python: str, libpython_dir: str, extra: Mapping[str, str]) -> dict[str, str]:
    """The server's environment variables.

    A stub runs the environment of the first `python3` on PATH, and loads the libpython that
    LD_LIBRARY_PATH names first: both must be those of `python`.
    """
    values = dict(os.environ) | dict(extra)
    ours = str(Path(python).absolute().parent)  # not resolved: an environment's is a link
    values["PATH"] = os.pathsep.join([ours, values.get("PATH", os.defpath)])
    libraries = [libpython_dir, values.get("LD_LIBRARY_PATH", "")]
    values["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, libraries))
    values.pop("PYTHONHOME", None)
    return values
