"""What lies in each GPU's memory, and how many sessions fit beside it. Standard library only."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from export.repository.catalogue import AVATAR, ROLLING, SYSTEMS, Model, Role
from export.repository.placement import VAE_LOAD, Placement
from pipeline.config.rolling import RollingConfig
from pipeline.engines.manifest import ON_DEVICE, Manifest, TensorSpec

PROCESS_BYTES = 1_500_000_000
"""Of one process: CUDA's context, kernels that are loaded when needed, graphs. An allowance."""
CACHES = tuple(system.denoiser.graphs[0] for system in SYSTEMS)
"""Engines that stand for a session's KV caches and text K/V, which others share with them."""
VAE_STATES = (Role.DECODER, Role.POSE)
STATES = tuple(m.graphs[0] for system in SYSTEMS for m in system.models if m.role in VAE_STATES)
"""Engines that stand for a session's state at decoder and pose encoder, which is there twice: read
and written."""
GB = 1e9
HEAD = (
    *("GPU", "holds", "weights", "scratch", "processes"),
    *("KV/session", "VAE/session", "I/O/session", "of", "sessions", "busy", "in time"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSize:
    """Bytes of one engine: once per process, and for every set of buffers it is bound to."""

    weights: int
    scratch: int
    shared: int = 0  # buffers of a session that all steps of a stage share: text K/V
    state: int = 0
    """Buffers of a session that this engine owns: KV cache, or the decoder's state, twice."""
    binding: int = 0
    """Device memory of a session, or of each of its steps, for what comes and goes."""


def engine_size(manifest: Manifest) -> EngineSize:
    """Sizes from a plan's manifest; a streamed plan's weights lie in host memory."""
    states = _bytes(manifest.inputs, ("cache_", "state_"))
    text = _bytes(manifest.inputs, ("text_k_", "text_v_"))
    every = sum(spec.num_bytes for spec in (*manifest.inputs.values(), *manifest.outputs.values()))
    kept = _bytes({**manifest.inputs, **manifest.outputs}, ON_DEVICE)
    holds_caches = manifest.graph in CACHES
    return EngineSize(
        weights=0 if manifest.streams_weights else max(manifest.plan_bytes, manifest.weights_bytes),
        scratch=manifest.scratch_bytes,
        shared=text if holds_caches else 0,
        state=states * (1 if holds_caches else 2 if manifest.graph in STATES else 0),
        binding=every - kept,
    )


def _bytes(specs: Mapping[str, TensorSpec], prefixes: tuple[str, ...]) -> int:
    return sum(spec.num_bytes for name, spec in specs.items() if name.startswith(prefixes))


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMemory:
    """One row of the table, in bytes."""

    gpu: int
    holds: str
    capacity: int
    weights: int
    scratch: int
    processes: int
    caches: int  # KV caches and text K/V of one session
    vae_state: int  # of one session
    bindings: int  # what comes and goes, of one session
    busy: float | None = None
    """Share of the time that one session in real time keeps the GPU busy, where it is known."""

    @property
    def fixed(self) -> int:
        return self.weights + self.scratch + self.processes

    @property
    def per_session(self) -> int:
        return self.caches + self.vae_state + self.bindings

    @property
    def sessions(self) -> int:
        """How many fit; negative free memory is none."""
        return max(self.capacity - self.fixed, 0) // max(self.per_session, 1)

    @property
    def sessions_in_time(self) -> int | None:
        """How many the GPU computes in real time, where that is known."""
        return None if self.busy is None else int(1 / self.busy)


def avatar_memory(
    placement: Placement,
    sizes: Mapping[str, EngineSize],
    capacity: int,
    step_share: float | None = None,
    *,
    pose: bool = False,
) -> list[GpuMemory]:
    """One row per GPU of `capacity` bytes; `sizes` by graph name. `step_share` is the time of a
    denoising step as a share of a block's. `pose`: with the encoder of pose videos."""
    rows = []
    for gpu in range(placement.num_gpus):
        steps = placement.steps[gpu] if gpu < len(placement.steps) else ()
        is_vae = gpu == placement.vae_gpu
        names = [f"steps {','.join(map(str, steps))}"] * bool(steps) + ["VAE, encoders"] * is_vae
        of_vae = [AVATAR.decoder, *AVATAR.encoders, *(AVATAR.pose if pose else [])]
        models = [AVATAR.denoiser] * bool(steps) + of_vae * is_vae
        row = _row(gpu, " + ".join(names), capacity, sizes, models, caches=len(steps))
        load = placement.load_of(gpu) + VAE_LOAD * (pose and is_vae)  # the encoder's is no less
        busy = None if step_share is None else step_share * load
        rows.append(dataclasses.replace(row, busy=busy))
    return rows


def rolling_memory(
    config: RollingConfig, sizes: Mapping[str, EngineSize], capacity: int
) -> GpuMemory:
    """The one GPU's row.

    A stream binds its window's plan once for each number of blocks that a window may have.
    """
    models = [ROLLING.denoiser, ROLLING.decoder, *ROLLING.encoders]
    holds, bound = "windows, VAE, text encoder", config.window_blocks
    return _row(0, holds, capacity, sizes, models, caches=1, bound=bound)


def _row(
    gpu: int,
    holds: str,
    capacity: int,
    sizes: Mapping[str, EngineSize],
    models: Sequence[Model],
    *,
    caches: int,
    bound: int | None = None,
) -> GpuMemory:
    """What `models` take on one GPU: the engines of one model share their scratch memory.

    caches: how many of a session. bound: how often the denoiser's first engine is bound for a
    session, None: once for each cache. Its other engines are bound once, and
    twice those of the VAE that go on from block to block.
    """
    denoiser = [sizes[g] for m in models if m.role is Role.DENOISER for g in m.graphs]
    of_vae = [m for m in models if m.role in VAE_STATES]
    encoders = any(model.role is Role.ENCODER for model in models)
    own = sum(model.role is not Role.ENCODER for model in models)
    counts = [caches if bound is None else bound, *[1] * len(denoiser)]
    return GpuMemory(
        gpu=gpu,
        holds=holds,
        capacity=capacity,
        weights=sum(sizes[graph].weights for model in models for graph in model.graphs),
        scratch=sum(max(sizes[graph].scratch for graph in model.graphs) for model in models),
        processes=PROCESS_BYTES * (own + encoders),
        caches=sum(caches * size.state + size.shared for size in denoiser),
        vae_state=sum(sizes[graph].state for model in of_vae for graph in model.graphs),
        bindings=sum(n * size.binding for n, size in zip(counts, denoiser, strict=False))
        + sum(2 * sizes[model.graphs[0]].binding for model in of_vae),
    )


def format_table(rows: Sequence[GpuMemory]) -> str:
    """The table for people, in GB."""
    lines: list[tuple[str, ...]] = [HEAD]
    for row in rows:
        numbers = (row.weights, row.scratch, row.processes, row.caches, row.vae_state)
        cells = [f"{n / GB:.2f}" for n in (*numbers, row.bindings)]
        in_time = "-" if row.busy is None else f"{row.busy:.0%}"
        most = "-" if row.sessions_in_time is None else str(row.sessions_in_time)
        fits = (f"{row.capacity / GB:.1f}", str(row.sessions), in_time, most)
        lines.append((str(row.gpu), row.holds, *cells, *fits))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = ["<" if title == "holds" else ">" for title in HEAD]
    form = "  ".join(f"{{:{side}{width}}}" for side, width in zip(sides, widths, strict=True))
    text = [form.format(*line) for line in lines]
    return "\n".join([*text, "(GB; a session needs a place on every GPU, and time)"])


MAKES_ROOM = "more GPUs, 8-bit weights or --stream-weights make room"


def check_fits(rows: Sequence[GpuMemory], sessions: int, advice: str = MAKES_ROOM) -> None:
    """ValueError with the numbers of every GPU that is too small for so many sessions."""
    if sessions < 1:
        raise ValueError(f"{sessions} sessions, wanted 1 or more")
    short = [row for row in rows if row.sessions < sessions]
    if not short:
        return
    lines = "; ".join(_sum(row, sessions) for row in short)
    most = min(row.sessions for row in rows)
    fewer = f"SESSIONS={most} fits" if most else "no session fits"
    raise ValueError(f"{sessions} sessions do not fit: {lines}. {fewer}; {advice}")


def _sum(row: GpuMemory, sessions: int) -> str:
    total = row.fixed + sessions * row.per_session
    return (
        f"GPU {row.gpu} ({row.holds}): {row.weights / GB:.2f} GB weights + {row.scratch / GB:.2f} "
        f"scratch + {row.processes / GB:.2f} processes + {sessions} x {row.per_session / GB:.2f} "
        f"per session = {total / GB:.2f} GB of {row.capacity / GB:.2f}"
    )
