"""The avatar's GPU deployment: plans instead of graphs, stages where they are placed.

The configurations in model_repository/ are written for a GPU per stage. Here they are set to a
placement: which GPUs, which steps, how many sessions. Only these values change. Standard library
only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from export.repository.assemble import without_hashes
from export.repository.memory import (
    STAGE_ENGINES,
    VAE_ENGINES,
    check_fits,
    engine_size,
    format_table,
    memory_table,
)
from export.repository.pbtxt import is_stage, stage_names, with_gpu, with_parameter, with_steps
from export.repository.placement import Placement, place
from pipeline.config.avatar import PipelineConfig
from pipeline.engines.manifest import Machine, Manifest, check_sources, manifest_path
from pipeline.identity.file_hashes import HASHES, read_hashes

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
    machine: Machine
    """What the plans were built on."""
    table: str
    """Memory of each GPU, for people."""

    def __str__(self) -> str:
        return f"{self.placement}\n{footing(self.machine, self.sessions)}\n{self.table}"

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
    num_gpus: int | None,
    sessions: int,
    gpu_memory_bytes: int | None = None,
) -> Deployment:
    """Check the plans against each other and the artifacts, the GPUs' memory against the sessions.

    `num_gpus`: None is one for each step and one for the VAE. `gpu_memory_bytes`: None takes that
    of the GPU the plans were built on. ValueError says in numbers what does not fit.
    """
    config = PipelineConfig.load(artifacts / "pipeline.json")
    manifests = load_manifests(engines)
    check_export(manifests, artifacts)
    placement = place(config.num_steps, num_gpus or config.num_steps + 1)
    sizes = {name: engine_size(manifest) for name, manifest in manifests.items()}
    rows = memory_table(placement, sizes, capacity_of(manifests, gpu_memory_bytes))
    check_fits(rows, sessions)
    return Deployment(
        engines=engines,
        placement=placement,
        sessions=sessions,
        machine=manifests["dit_step"].machine,
        table=format_table(rows),
    )


def load_manifests(
    engines: Path, names: Sequence[str] = (*STAGE_ENGINES, *VAE_ENGINES)
) -> dict[str, Manifest]:
    """Of all plans; ValueError if one is missing or was built on another machine."""
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


def check_export(manifests: Mapping[str, Manifest], artifacts: Path) -> None:
    """ValueError if a plan was built from another export than `artifacts`, whose tables and
    configuration it would be served with."""
    if not (artifacts / HASHES).is_file():
        raise ValueError(without_hashes(artifacts))
    check_sources(manifests.values(), read_hashes(artifacts), str(artifacts))


def capacity_of(manifests: Mapping[str, Manifest], given_bytes: int | None) -> int:
    """Bytes of a GPU's memory: as given, or of the one that the plans were built on."""
    capacity = given_bytes or next(iter(manifests.values())).gpu_memory_bytes
    if not capacity:
        raise ValueError("the plans name no GPU memory; say --gpu-memory-gb")
    return capacity


def footing(machine: Machine, sessions: int) -> str:
    """What a deployment stands on, in a line for people."""
    return (
        f"plans for {machine.gpu}, sm {machine.compute_capability}, "
        f"{machine.library} {machine.tensorrt}; {sessions} sessions"
    )
