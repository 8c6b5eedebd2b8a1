"""A deployment of the avatar that nobody has built yet: its stations, and what comes of them."""

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.planner.efficiency import Efficiency
from benchmarks.planner.hardware import Gpu
from benchmarks.planner.simulation import Run, Station, backlog, in_time, simulate
from benchmarks.planner.work import AvatarWork, Work, avatar_work
from export.checks.estimate import sizes_of
from export.repository.memory import GpuMemory, avatar_memory
from export.repository.placement import Placement, place
from networks.presets import Preset

BLOCKS = 60
"""Of a simulated session. Caches are full after four, the sink is filled anew before the fifth."""
SETTLED = 12
"""Blocks that are left out where the steady state is meant."""
MOST_SESSIONS = 16
"""Of one server: more are not looked for."""
VISIT_S = 2.0e-3
"""What a model spends on a block beside its work: a request taken, an answer given. Measured with
models that sleep, 1.3 to 3.5 ms on two busy cores (docs/metrics.md)."""
HOP_S, HOP_S_PER_BYTE = 0.4e-3, 0.5e-9
"""A message from the orchestrator to a model and back, of the same run: 0.39 ms with 4 kB, 0.69
with 600 kB, 3.7 with 6 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What is planned."""

    preset: Preset
    gpu: Gpu
    gpus: int
    precision: str
    efficiency: Efficiency

    def seconds(self, work: Work) -> float:
        return self.efficiency.seconds(work, self.gpu, self.precision)

    @property
    def placement(self) -> Placement:
        """ValueError for more GPUs than a server can use."""
        return place(self.preset.pipeline.num_steps, self.gpus)

    @property
    def work(self) -> AvatarWork:
        return avatar_work(self.preset)

    @property
    def block_s(self) -> float:
        """How long a viewer looks at a block."""
        return self.preset.pipeline.video_frames_per_block / self.preset.pipeline.fps

    @property
    def message_bytes(self) -> int:
        """From station to station: a block of latents in float32."""
        return 4 * int(np.prod(self.preset.pipeline.latent_shape))

    def stations(self) -> list[Station]:
        """The stages in order, then the decoder."""
        hop_s = HOP_S + HOP_S_PER_BYTE * self.message_bytes
        stages = [
            Station(
                name="steps " + ",".join(map(str, steps)),
                seconds=len(steps) * self.seconds(self.work.step) + VISIT_S,
                device=device,
                extra_s=self._extra_s(len(steps)),
                hop_s=hop_s,
            )
            for device, steps in enumerate(self.placement.steps)
        ]
        decode_s = self.seconds(self.work.decode) + VISIT_S
        device = self.placement.vae_gpu
        return [*stages, Station(name="VAE", seconds=decode_s, device=device, hop_s=hop_s)]

    def _extra_s(self, steps: int) -> dict[int, float]:
        """Less while the ring fills, one slot a block; more where the sink is filled anew."""
        c, work = self.preset.pipeline, self.work
        saved = self.seconds(work.step) - self.seconds(work.first_step)
        empty = c.window_blocks - 1
        extra = {b: -steps * saved * (empty - b) / empty for b in range(empty)}
        again = c.recalibrate_block
        extra[again] = extra.get(again, 0.0) + self.seconds(work.prefill)
        return extra

    def start_s(self) -> float:
        """From START to a session that can take its first block: picture and prompt are encoded,
        then every stage fills its sink while the decoder warms up."""
        work = self.work
        encoded = self.seconds(work.text) + self.seconds(work.encode)
        prefill, warm_up = self.seconds(work.prefill), self.seconds(work.warm_up)
        shares = self.placement.vae_gpu < len(self.placement.steps)
        return encoded + (prefill + warm_up if shares else max(prefill, warm_up))

    def memory(self) -> list[GpuMemory]:
        """A row for each GPU, as `make gpu-plan` counts it."""
        return list(_memory(self.preset, self.precision, self.gpus, int(self.gpu.memory)))


@functools.cache
def _memory(preset: Preset, precision: str, gpus: int, capacity: int) -> tuple[GpuMemory, ...]:
    placement = place(preset.pipeline.num_steps, gpus)
    return tuple(avatar_memory(placement, sizes_of(preset, precision), capacity))


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What comes of a deployment, as docs/metrics.md defines it."""

    fps_denoising: float
    """Frames per second of all sessions together, without VAE and messages."""
    fps: float
    """With both."""
    first_frame_s: float  # warm
    block_latency_s: tuple[float, float] | None
    """p50 and p95 with one session in real time: from a block's sound to its frames. None if the
    server falls behind."""
    start_stall_s: float
    """How long a viewer who begins with the first block waits in the first twelve, because the sink
    is filled anew before the fifth; a buffer of that length hides it."""
    bubble_ratio: float
    sessions_by_memory: int
    sessions_by_time: int
    busiest: str
    run: Run

    @property
    def sessions(self) -> int:
        return min(self.sessions_by_memory, self.sessions_by_time)


def forecast(deployment: Deployment, buffer_s: float) -> Forecast:
    """Simulate `deployment`; a session is in time if no block comes later than `buffer_s` after the
    moment that its first blocks set."""
    c, stations = deployment.preset.pipeline, deployment.stations()
    run = simulate(stations, backlog(1, BLOCKS))
    work_s = device_work_s(stations)
    busiest = max(work_s, key=lambda device: work_s[device])
    slowest = max(len(steps) for steps in deployment.placement.steps)
    denoising_s = slowest * deployment.seconds(deployment.work.step)
    live = simulate(stations, in_time(1, BLOCKS, deployment.block_s), lanes=1)
    p50, p95 = np.percentile(live.latencies_s()[SETTLED:], [50, 95]).tolist()
    keeps_up = max(work_s.values()) <= deployment.block_s
    return Forecast(
        fps_denoising=c.video_frames_per_block / denoising_s,
        fps=c.video_frames_per_block / run.period_s(SETTLED),
        first_frame_s=deployment.start_s() + run.answers_s[0][0],
        block_latency_s=(p50, p95) if keeps_up else None,
        start_stall_s=live.start_stall_s(deployment.block_s, SETTLED),
        bubble_ratio=run.bubble_ratio(SETTLED),
        sessions_by_memory=min(row.sessions for row in deployment.memory()),
        sessions_by_time=sessions_in_time(stations, deployment.block_s, buffer_s),
        busiest=" + ".join(s.name for s in stations if s.device == busiest),
        run=run,
    )


def device_work_s(stations: Sequence[Station]) -> dict[int, float]:
    """By device: its work of a block."""
    work_s: dict[int, float] = {}
    for station in stations:
        work_s[station.device] = work_s.get(station.device, 0.0) + station.seconds
    return work_s


def sessions_in_time(stations: Sequence[Station], block_s: float, buffer_s: float) -> int:
    """The most sessions of which no block is late once they have settled, up to MOST_SESSIONS."""

    def is_in_time(sessions: int) -> bool:
        run = simulate(stations, in_time(sessions, BLOCKS, block_s))
        return run.late_ratio(buffer_s, block_s, SETTLED) == 0

    most = min(int(block_s / max(device_work_s(stations).values())), MOST_SESSIONS)
    return next((sessions for sessions in range(most, 0, -1) if is_in_time(sessions)), 0)


def changes(deployment: Deployment, software: dict[str, Efficiency]) -> dict[str, Deployment]:
    """What an owner could do otherwise, one thing at a time."""
    found: dict[str, Deployment] = {}
    steps = deployment.preset.pipeline.num_steps
    change = functools.partial(dataclasses.replace, deployment)
    if deployment.precision != "fp8" and "fp8" in deployment.gpu.peaks:
        found["--precision fp8"] = change(precision="fp8")
    if deployment.gpus <= steps:  # a step each, and the VAE
        found[f"--gpus {deployment.gpus + 1}"] = change(gpus=deployment.gpus + 1)
    if deployment.gpus > 1:
        found[f"--gpus {deployment.gpus - 1}"] = change(gpus=deployment.gpus - 1)
    if steps > 1 and deployment.gpus <= steps:
        config = dataclasses.replace(deployment.preset.pipeline, num_steps=steps - 1)
        fewer = dataclasses.replace(deployment.preset, pipeline=config)
        found[f"--steps {steps - 1}"] = change(preset=fewer)
    for name, efficiency in software.items():
        if efficiency is not deployment.efficiency:
            found[f"--software {name}"] = change(efficiency=efficiency)
    return found
