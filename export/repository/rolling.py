"""The GPU deployment of text-to-video streams: all of it on one GPU.

A tick is one call over all levels of noise, so there is nothing to spread over more GPUs; another
stream's server can have another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from export.repository.avatar import (
    PLAN,
    capacity_of,
    check_export,
    footing,
    load_manifests,
)
from export.repository.memory import (
    PROCESS_BYTES,
    EngineSize,
    GpuMemory,
    check_fits,
    engine_size,
    format_table,
)
from export.repository.pbtxt import with_gpu, with_parameter
from pipeline.config.rolling import RollingConfig
from pipeline.engines.manifest import Machine, manifest_path

ENGINES: dict[str, tuple[str, ...]] = {
    "dit_window": ("dit_window", "dit_clean", "dit_text", "dit_recache"),
    "rolling_vae_decoder": ("vae_decoder_first", "vae_decoder"),
    "rolling_text_encoder": ("text_encoder",),
}
"""Model -> the plans it loads, into a process of its own; the last one into the server's."""
STATELESS = "rolling_text_encoder"
"""Triton's own TensorRT backend runs it."""
GPU = 0
MAKES_ROOM = "a larger GPU makes room, and a server of its own on another one"


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingDeployment:
    """Plans on one GPU, and for how many sessions."""

    engines: Path
    """Folder of the plans and their manifests."""
    sessions: int
    machine: Machine
    """What the plans were built on."""
    table: str
    """Memory of the GPU, for people."""

    def __str__(self) -> str:
        return f"GPU {GPU}: all models\n{footing(self.machine, self.sessions)}\n{self.table}"

    def models(self) -> list[str]:
        return ["rolling_forcing", *ENGINES]

    def is_python(self, model: str) -> bool:
        return model != STATELESS

    def files(self, model: str) -> dict[str, Path]:
        """Name in the model's version folder -> plan or manifest that becomes it."""
        plans = {name: self.engines / f"{name}.plan" for name in ENGINES.get(model, ())}
        names = {n: PLAN if model == STATELESS else plan.name for n, plan in plans.items()}
        pairs = [(names[n], plan) for n, plan in plans.items()]
        pairs += [(manifest_path(Path(names[n])).name, manifest_path(p)) for n, p in plans.items()]
        return dict(pairs)

    def config(self, model: str, text: str) -> str:
        """config.pbtxt of `model`, set to this deployment."""
        if model in ENGINES:
            text = with_gpu(text, GPU)
        return (
            text if model == STATELESS else with_parameter(text, "max_sessions", str(self.sessions))
        )


def plan_rolling_deployment(
    artifacts: Path,
    engines: Path,
    *,
    num_gpus: int | None,
    sessions: int,
    gpu_memory_bytes: int | None = None,
) -> RollingDeployment:
    """As `engine_repository.plan_deployment`, for the only number of GPUs that there is."""
    if num_gpus not in (None, 1):
        raise ValueError(f"{num_gpus} GPUs, wanted 1: a text-to-video stream runs on one device")
    config = RollingConfig.load(artifacts / "rolling.json")
    manifests = load_manifests(engines, [name for names in ENGINES.values() for name in names])
    check_export(manifests, artifacts)
    sizes = {name: engine_size(manifest) for name, manifest in manifests.items()}
    rows = [memory_row(sizes, config, capacity_of(manifests, gpu_memory_bytes))]
    check_fits(rows, sessions, MAKES_ROOM)
    return RollingDeployment(
        engines=engines,
        sessions=sessions,
        machine=manifests["dit_window"].machine,
        table=format_table(rows),
    )


def memory_row(sizes: Mapping[str, EngineSize], config: RollingConfig, capacity: int) -> GpuMemory:
    """What lies on the GPU; `sizes` by graph name.

    A stream binds its window's plan once for each number of blocks that a window may have, the
    plans of its other passes once, and the decoder's twice.
    """

    def of(model: str) -> Sequence[EngineSize]:
        return [sizes[name] for name in ENGINES[model]]

    window, decoder = sizes["dit_window"], sizes["vae_decoder"]
    others = [sizes[name] for name in ENGINES["dit_window"] if name != "dit_window"]
    return GpuMemory(
        gpu=GPU,
        holds="windows, VAE, text encoder",
        capacity=capacity,
        weights=sum(size.weights for model in ENGINES for size in of(model)),
        scratch=sum(max(size.scratch for size in of(model)) for model in ENGINES),
        processes=PROCESS_BYTES * len(ENGINES),
        caches=window.state + window.shared,
        vae_state=decoder.state,
        bindings=config.window_blocks * window.binding
        + sum(size.binding for size in others)
        + 2 * decoder.binding,
    )
