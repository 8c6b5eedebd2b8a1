"""Assemble a model repository of plans for GPUs: an avatar's, or that of text-to-video streams.

    python -m export.repository.deployment --artifacts DIR --engines DIR --gpus 2 --sessions 1

The configurations in model_repository/ are written for a GPU per stage. Here they are set to a
placement: which GPUs, which steps, how many sessions. What does not fit into memory is refused.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from export.repository import memory as gpu_memory
from export.repository.assemble import REPO, assemble, without_hashes
from export.repository.catalogue import ROLLING, Model, Role, System, system_in
from export.repository.folders import Folder, written
from export.repository.pbtxt import stage_names, with_gpu, with_parameter, with_pose, with_steps
from export.repository.placement import Placement, place
from pipeline.config.avatar import PipelineConfig
from pipeline.config.rolling import RollingConfig
from pipeline.engines.manifest import Machine, Manifest, check_sources, manifest_path
from pipeline.identity.file_hashes import HASHES, read_hashes

PLAN = "model.plan"
"""What Triton's own TensorRT backend looks for."""
LARGER_GPU = "a larger GPU makes room, and a server of its own on another one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Plans, where they go, and for how many sessions."""

    system: System
    engines: Path  # folder of the plans and their manifests
    placement: Placement  # all steps of a text-to-video stream stand on one GPU
    sessions: int
    machine: Machine  # what the plans were built on
    memory: Sequence[gpu_memory.GpuMemory]  # a row for each GPU
    pose: bool = False  # with the encoder of pose videos

    def __str__(self) -> str:
        machine = self.machine
        where = "GPU 0: all models" if self.system is ROLLING else str(self.placement)
        return (
            f"{where}\nplans for {machine.gpu}, sm {machine.compute_capability}, "
            f"{machine.library} {machine.tensorrt}; {self.sessions} sessions\n"
            f"{gpu_memory.format_table(self.memory)}"
        )

    def models(self) -> list[str]:
        """Models of the repository: as many stages as the placement has."""
        stages = [self.system.denoiser.name]
        if self.system is not ROLLING:
            stages = stage_names(self.placement.steps)
        left_out = {Role.DENOISER} if self.pose else {Role.DENOISER, Role.POSE}
        others = [m.name for m in self.system.models if m.role not in left_out]
        return [*others, *stages]

    def folder(self, name: str, model: Model, artifacts: Path) -> Folder:
        """The model's folder: plans and their manifests in the place of graphs and weights."""
        is_python = model.role not in (Role.ENSEMBLE, Role.ENCODER)
        wanted = [self.system.config, HASHES, *filter(None, [model.table])] if is_python else []
        files = {file: artifacts / file for file in wanted}
        for graph in model.graphs:
            plan = self.engines / f"{graph}.plan"
            served = Path(PLAN if model.role is Role.ENCODER else plan.name)
            files |= {served.name: plan, manifest_path(served).name: manifest_path(plan)}
        return Folder(
            name=name,
            model=model,
            files=files,
            is_python=is_python,
            config=lambda text: self._config(name, model, text),
            for_gpus=True,
        )

    def _config(self, name: str, model: Model, text: str) -> str:
        text = with_steps(name, text, self.placement.steps)
        text = with_pose(name, text) if self.pose else text
        if model.role is Role.DENOISER:
            number = name.rpartition("_")[2]
            text = with_gpu(text, int(number) if number.isdigit() else 0)
        elif model.role in (Role.DECODER, Role.POSE, Role.ENCODER):
            text = with_gpu(text, self.placement.vae_gpu)
        if model.holds_sessions:
            text = with_parameter(text, "max_sessions", str(self.sessions))
        return text


def plan(
    artifacts: Path,
    engines: Path,
    *,
    num_gpus: int | None,
    sessions: int,
    gpu_memory_bytes: int | None = None,
    pose: bool = False,
) -> Deployment:
    """The deployment of what lies in `artifacts`: the plans are checked against each other and the
    artifacts, the GPUs' memory against the sessions.

    num_gpus: None is one for each step and one for the VAE, of text-to-video streams one.
    pose: with the encoder of pose videos, which Live Avatar alone has.
    gpu_memory_bytes: None takes that of the GPU the plans were built on. ValueError says in numbers
    what does not fit.
    """
    system = system_in(artifacts)
    config: PipelineConfig | RollingConfig
    if system is ROLLING:
        config = RollingConfig.load(artifacts / system.config)
        if num_gpus not in (None, 1):
            raise ValueError(
                f"{num_gpus} GPUs, wanted 1: a text-to-video stream runs on one device"
            )
        placement = place(config.window_blocks, 1)
    else:
        config = PipelineConfig.load(artifacts / system.config)
        placement = place(config.num_steps, num_gpus or config.num_steps + 1)
    if pose and not system.pose:
        raise ValueError("text-to-video streams follow no pose video: leave out --pose (POSE=)")
    manifests = load_manifests(engines, system, pose=pose)
    if not (artifacts / HASHES).is_file():
        raise ValueError(without_hashes(artifacts))
    check_sources(manifests.values(), read_hashes(artifacts), str(artifacts))
    sizes = {name: gpu_memory.engine_size(manifest) for name, manifest in manifests.items()}
    first = manifests[system.graphs[0]]
    if not (capacity := gpu_memory_bytes or first.gpu_memory_bytes):
        raise ValueError("the plans name no GPU memory; say --gpu-memory-gb")
    if isinstance(config, RollingConfig):
        rows = [gpu_memory.rolling_memory(config, sizes, capacity)]
        gpu_memory.check_fits(rows, sessions, LARGER_GPU)
    else:
        rows = gpu_memory.avatar_memory(placement, sizes, capacity, pose=pose)
        gpu_memory.check_fits(rows, sessions)
    return Deployment(
        system=system,
        engines=engines,
        placement=placement,
        sessions=sessions,
        machine=first.machine,
        memory=rows,
        pose=pose,
    )


def load_manifests(engines: Path, system: System, *, pose: bool = False) -> Mapping[str, Manifest]:
    """Of all plans; ValueError if one is missing or was built on another machine."""
    names = [*system.graphs, *(system.pose_graphs if pose else [])]
    if missing := [name for name in names if not (engines / f"{name}.plan").is_file()]:
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


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Assemble a repository of plans for GPUs.")
    parser.add_argument("--artifacts", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=REPO / "build" / "model_repository")
    parser.add_argument("--engines", type=Path, required=True)
    parser.add_argument("--gpus", type=int, help="on how many to fold the stages; else one each")
    parser.add_argument("--sessions", type=int, default=1, help="how many at a time must fit")
    parser.add_argument("--gpu-memory-gb", type=float, help="of each GPU; else as it was built on")
    parser.add_argument("--pose", action="store_true", help="with the encoder of pose videos")
    given = parser.parse_args()
    memory_gb = given.gpu_memory_gb
    with written(given.out) as names:
        deployment = plan(
            given.artifacts,
            given.engines,
            num_gpus=given.gpus,
            sessions=given.sessions,
            gpu_memory_bytes=None if memory_gb is None else int(memory_gb * 1e9),
            pose=given.pose,
        )
        print(deployment)
        assemble(given.artifacts, given.out.absolute(), deployment=deployment)
        names += deployment.models()


if __name__ == "__main__":
    main()
