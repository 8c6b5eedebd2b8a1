"""The GPU deployment of a model repository: plans instead of graphs, stages where they are placed.

    python -m export.engine_repository --artifacts DIR --engines DIR --gpus 2 --sessions 1

The configurations in model_repository/ are written for a GPU per stage. Here they are set to a
placement: which GPUs, which steps, how many sessions. Only these values change. Standard library
only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from export.assemble_repository import REPO, assemble
from export.engine_memory import (
    STAGE_ENGINES,
    VAE_ENGINES,
    check_fits,
    engine_size,
    format_table,
    memory_table,
)
from export.engine_placement import Placement, place
from export.stage_configs import is_stage, stage_names, with_gpu, with_parameter, with_steps
from pipeline.config import PipelineConfig
from pipeline.engine_manifest import Manifest, manifest_path

STATELESS = ("audio_encoder", "audio_tokens", "text_encoder", "vae_encoder")
"""Models that Triton's own TensorRT backend runs, from `model.plan`."""
PLAN = "model.plan"
GRAPHS: dict[str, tuple[str, ...]] = {
    "dit_stage": STAGE_ENGINES,
    "vae_decoder": ("vae_decoder", "vae_decoder_warmup"),
}
"""Python model -> the plans it loads; `dit_stage` stands for every stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Plans, where they go, and for how many sessions."""

    engines: Path
    """Folder of the plans and their manifests."""
    placement: Placement
    sessions: int
    table: str
    """Memory of each GPU, for people."""

    def models(self) -> list[str]:
        """Models of the repository: as many stages as the placement has."""
        stages = stage_names(self.placement.steps)
        return ["live_avatar", "conditioning", *STATELESS, *stages, "vae_decoder"]

    def is_python(self, model: str) -> bool:
        return model not in STATELESS

    def files(self, model: str) -> dict[str, Path]:
        """Name in the model's version folder -> plan or manifest that becomes it."""
        if model in STATELESS:
            plan = self.engines / f"{model}.plan"
            return {PLAN: plan, manifest_path(Path(PLAN)).name: manifest_path(plan)}
        kind = model.rstrip("_0123456789")
        plans = [self.engines / f"{graph}.plan" for graph in GRAPHS.get(kind, ())]
        return {path.name: path for plan in plans for path in (plan, manifest_path(plan))}

    def config(self, model: str, text: str) -> str:
        """config.pbtxt of `model`, set to this deployment."""
        text = with_steps(model, text, self.placement.steps)
        if model in STATELESS or model == "vae_decoder":
            text = with_gpu(text, self.placement.vae_gpu)
        elif is_stage(model):
            text = with_gpu(text, int(model.rpartition("_")[2]))
        holds_sessions = model in ("live_avatar", "vae_decoder") or is_stage(model)
        return with_parameter(text, "max_sessions", str(self.sessions)) if holds_sessions else text


def plan_deployment(
    artifacts: Path,
    engines: Path,
    *,
    num_gpus: int,
    sessions: int,
    gpu_memory_bytes: int | None = None,
) -> Deployment:
    """Check the plans against each other and the GPUs' memory against the sessions.

    `gpu_memory_bytes`: None takes that of the GPU the plans were built on. ValueError says in
    numbers what does not fit.
    """
    if sessions < 1:
        raise ValueError(f"{sessions} sessions, wanted 1 or more")
    config = PipelineConfig.load(artifacts / "pipeline.json")
    manifests = load_manifests(engines)
    capacity = gpu_memory_bytes or manifests["dit_step"].gpu_memory_bytes
    if not capacity:
        raise ValueError(f"{engines}: the plans name no GPU memory; say --gpu-memory-gb")
    placement = place(config.num_steps, num_gpus)
    sizes = {name: engine_size(manifest) for name, manifest in manifests.items()}
    rows = memory_table(placement, sizes, capacity)
    check_fits(rows, sessions)
    table = format_table(rows)
    return Deployment(engines=engines, placement=placement, sessions=sessions, table=table)


def load_manifests(engines: Path) -> dict[str, Manifest]:
    """Of all plans; ValueError if one is missing or was built on another machine."""
    names = (*STAGE_ENGINES, *VAE_ENGINES)
    missing = [name for name in names if not (engines / f"{name}.plan").is_file()]
    if missing:
        raise ValueError(
            f"no plans of {', '.join(missing)} in {engines}; build them on this machine's GPU: "
            "make engines"
        )
    manifests = {name: Manifest.load(manifest_path(engines / f"{name}.plan")) for name in names}
    first = manifests[names[0]]
    for name, manifest in manifests.items():
        if manifest.machine != first.machine:
            raise ValueError(
                f"{name}.plan was built for {manifest.machine}, {names[0]}.plan for "
                f"{first.machine}: build all on one machine"
            )
    return manifests


def summary(deployment: Deployment, manifests: Mapping[str, Manifest]) -> str:
    """What `make repository` prints."""
    machine = manifests["dit_step"].machine
    return (
        f"{deployment.placement}\nplans for {machine.gpu}, sm {machine.compute_capability}, "
        f"{machine.library} {machine.tensorrt}; {deployment.sessions} sessions\n{deployment.table}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Assemble a repository of plans for GPUs.")
    parser.add_argument("--artifacts", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=REPO / "build" / "model_repository")
    parser.add_argument("--engines", type=Path, required=True)
    parser.add_argument("--gpus", type=int, default=5, help="on how many GPUs to fold the stages")
    parser.add_argument("--sessions", type=int, default=1, help="how many at a time must fit")
    parser.add_argument("--gpu-memory-gb", type=float, help="of each GPU; else as it was built on")
    given = parser.parse_args()
    memory_gb = given.gpu_memory_gb
    try:
        deployment = plan_deployment(
            given.artifacts,
            given.engines,
            num_gpus=given.gpus,
            sessions=given.sessions,
            gpu_memory_bytes=None if memory_gb is None else int(memory_gb * 1e9),
        )
        print(summary(deployment, load_manifests(given.engines)))
        assemble(given.artifacts, given.out.absolute(), deployment=deployment)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{given.out}: {', '.join(deployment.models())}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
