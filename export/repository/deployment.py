"""Assemble a model repository of plans for GPUs: an avatar's, or that of text-to-video streams.

    python -m export.repository.deployment --artifacts DIR --engines DIR --gpus 2 --sessions 1

Prints the memory of each GPU; what does not fit is refused. Standard library only.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from export.repository.assemble import REPO, ROLLING_CONFIG, assemble, why_not_written
from export.repository.avatar import Deployment, plan_deployment
from export.repository.rolling import RollingDeployment, plan_rolling_deployment


def plan(
    artifacts: Path,
    engines: Path,
    *,
    num_gpus: int | None,
    sessions: int,
    gpu_memory_bytes: int | None = None,
) -> Deployment | RollingDeployment:
    """The deployment of what lies in `artifacts`; ValueError says what does not fit."""
    is_rolling = (artifacts / ROLLING_CONFIG).is_file()
    planned = plan_rolling_deployment if is_rolling else plan_deployment
    return planned(
        artifacts,
        engines,
        num_gpus=num_gpus,
        sessions=sessions,
        gpu_memory_bytes=gpu_memory_bytes,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Assemble a repository of plans for GPUs.")
    parser.add_argument("--artifacts", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=REPO / "build" / "model_repository")
    parser.add_argument("--engines", type=Path, required=True)
    parser.add_argument("--gpus", type=int, help="on how many to fold the stages; else one each")
    parser.add_argument("--sessions", type=int, default=1, help="how many at a time must fit")
    parser.add_argument("--gpu-memory-gb", type=float, help="of each GPU; else as it was built on")
    given = parser.parse_args()
    memory_gb = given.gpu_memory_gb
    try:
        deployment = plan(
            given.artifacts,
            given.engines,
            num_gpus=given.gpus,
            sessions=given.sessions,
            gpu_memory_bytes=None if memory_gb is None else int(memory_gb * 1e9),
        )
        print(deployment)
        assemble(given.artifacts, given.out.absolute(), deployment=deployment)
    except (ValueError, OSError) as error:
        print(f"error: {why_not_written(error, given.out)}", file=sys.stderr)
        return 1
    print(f"{given.out}: {', '.join(deployment.models())}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
