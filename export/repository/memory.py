"""What lies in each GPU's memory, and how many sessions fit beside it. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from export.repository.placement import Placement
from pipeline.engines.manifest import ON_DEVICE, Manifest, TensorSpec

PROCESS_BYTES = 500_000_000
"""A CUDA context with TensorRT's libraries in one process: an allowance, not a measurement."""
STAGE_ENGINES = ("dit_step", "dit_prefill", "dit_text")
VAE_ENGINES = (
    *("vae_decoder", "vae_decoder_warmup"),
    *("vae_encoder", "audio_encoder", "audio_tokens", "text_encoder"),
)
HOLDERS = ("dit_step", "dit_window")
"""Engines that stand for a session's KV caches and text K/V, which others share with them."""
VAE_PROCESSES = 2
"""The decoder's, and the server's own with the encoders."""
GB = 1e9
HEAD = (
    *("GPU", "holds", "weights", "scratch", "processes"),
    *("KV/session", "VAE/session", "I/O/session", "of", "sessions"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSize:
    """Bytes of one engine: once per process, and for every set of buffers it is bound to."""

    weights: int
    scratch: int
    shared: int = 0
    """Buffers of a session that all steps of a stage share: text K/V."""
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
    return EngineSize(
        weights=0 if manifest.streams_weights else max(manifest.plan_bytes, manifest.weights_bytes),
        scratch=manifest.scratch_bytes,
        shared=text if manifest.graph in HOLDERS else 0,
        state=states if manifest.graph in HOLDERS else _decoder_state(manifest, states),
        binding=every - kept,
    )


def _decoder_state(manifest: Manifest, states: int) -> int:
    return 2 * states if manifest.graph == "vae_decoder" else 0


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
    caches: int
    """KV caches and text K/V of one session."""
    vae_state: int
    """Of one session."""
    bindings: int
    """What comes and goes, of one session."""

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


def memory_table(
    placement: Placement, sizes: Mapping[str, EngineSize], capacity: int
) -> list[GpuMemory]:
    """One row per GPU of `capacity` bytes; `sizes` by graph name."""
    rows = []
    for gpu in range(placement.num_gpus):
        steps = placement.steps[gpu] if gpu < len(placement.steps) else ()
        is_vae = gpu == placement.vae_gpu
        stage = [sizes[name] for name in STAGE_ENGINES] if steps else []
        vae = [sizes[name] for name in VAE_ENGINES] if is_vae else []
        names = [f"steps {','.join(map(str, steps))}"] if steps else []
        rows.append(
            GpuMemory(
                gpu=gpu,
                holds=" + ".join(names + ["VAE, encoders"] * is_vae),
                capacity=capacity,
                weights=sum(size.weights for size in (*stage, *vae)),
                scratch=_scratch(stage, vae),
                processes=PROCESS_BYTES * (bool(steps) + VAE_PROCESSES * is_vae),
                caches=len(steps) * sum(s.state for s in stage) + sum(s.shared for s in stage),
                vae_state=sum(size.state for size in vae),
                bindings=_stage_bindings(stage, len(steps))
                + 2 * (sizes["vae_decoder"].binding if is_vae else 0),
            )
        )
    return rows


def _stage_bindings(stage: Sequence[EngineSize], num_steps: int) -> int:
    """The first engine is bound for every step, the others once."""
    return sum(size.binding * (num_steps if i == 0 else 1) for i, size in enumerate(stage))


def _scratch(stage: Sequence[EngineSize], vae: Sequence[EngineSize]) -> int:
    """A stage's engines share theirs, and so do the decoder's two; the encoders have their own."""
    own = max((size.scratch for size in stage), default=0)
    decoder = max((size.scratch for size in vae[:2]), default=0)
    return own + decoder + sum(size.scratch for size in vae[2:])


def format_table(rows: Sequence[GpuMemory]) -> str:
    """The table for people, in GB."""
    lines: list[tuple[str, ...]] = [HEAD]
    for row in rows:
        numbers = (row.weights, row.scratch, row.processes, row.caches, row.vae_state)
        cells = [f"{n / GB:.2f}" for n in (*numbers, row.bindings)]
        fits = (f"{row.capacity / GB:.1f}", str(row.sessions))
        lines.append((str(row.gpu), row.holds, *cells, *fits))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(map(_justified, line, widths, range(len(HEAD)))) for line in lines]
    return "\n".join([*text, "(GB; a session needs a place on every GPU)"])


def _justified(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 1 else cell.rjust(width)


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
