"""What a server needs of a machine, what is here, and how to fix what is missing.

    python -m deploy.doctor [--ports 8000,8001,8002] [--engines build/engines/demo]

On a machine without a GPU it says so and looks at the rest. The exit code is 1 if something would
keep the server from running. Standard library only: it runs before anything is installed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.checkout import REPO
from deploy.doctor import gpus, machine
from deploy.doctor.findings import PROBLEM, Finding, report
from deploy.outcome import exit_code
from deploy.server.ports import default_texts, parse_port

TRITON_VERSION_FILE = Path("/opt/tritonserver/TRITON_VERSION")


def examine(ports: Sequence[int], engines: Path, run: gpus.Run = gpus.run_command) -> list[Finding]:
    """All findings, in the order of the report."""
    found = gpus.read_gpus(run)
    version = TRITON_VERSION_FILE.read_text() if TRITON_VERSION_FILE.is_file() else None
    return [
        *gpus.check_driver(found),
        *gpus.check_peers(found, run),
        gpus.check_tensorrt(gpus.tensorrt_version(), bool(found)),
        *gpus.check_bindings(gpus.BINDINGS, bool(found)),
        machine.check_triton(version, bool(found), REPO / "build" / "tritonserver"),
        machine.check_disk(REPO),
        machine.check_shm(),
        *map(machine.check_port, ports),
        *gpus.check_plans(engines, found),
    ]


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
