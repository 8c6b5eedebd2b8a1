"""How fast is the pipeline beside what a user would run instead?

The avatar's four denoising steps and its decoder, with the same weights, caches, positions and
inputs, in a process each: block after block in PyTorch eager, torch.compile and ONNX Runtime, with
all cores and with one; and as the server runs them, by timestep forcing, with a thread for each
stage. Sound and pictures are encoded beforehand, and nothing is sent: what a server adds is
measured elsewhere (benchmarks.bench_orchestration).

    python -m benchmarks.peers
    python -m benchmarks.peers --release ../LiveAvatar

Outputs are compared first: latents and frames of the first blocks with those of ONNX Runtime on one
thread. A peer whose outputs are others is not measured. Then all take turns. A speed-up is a peer's
time for a block over ours in the same turn.

Do nothing else with the machine: threads of PyTorch wait for each other, awake, at every operator,
and two of them beside other programs took up to forty times as long (AMD EPYC, 2 cores).

PyTorch's caches are written in place, and torch.compile has the steady state alone, where all
shapes are fixed: both better than what a user gets by himself.

The last line is one JSON object: per peer ms_per_block, fps and speed_up, each with the lowest and
the highest, how far its outputs were off, and not_measured with a reason.
"""

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.peers import release as released
from benchmarks.peers.peer import ENGINES, NotToBeHadError, Peer, PeerProcess
from benchmarks.report import machine, table
from deploy.checkout import REPO
from export.commands import failing_in_words
from pipeline.config.avatar import PipelineConfig
from pipeline.engines.base import Array

COMPARED = 12
"""Blocks: the ring has wrapped by then."""
LIMITS = {"latent_difference": 1e-4, "frame_difference": 1}
"""Of values about 1, after twelve blocks of four steps in float32 that add in another order; and in
levels of 255, where that lies on the edge of a rounding."""
Findings = dict[str, Any]


def every_peer(*threads: int) -> list[Peer]:
    """Ours, then what all others are compared with, then those: each with these threads."""
    ours = Peer(name="timestep forcing", engine="ONNX Runtime", threads=1, workers=5)
    return [ours, *(Peer(name=e, engine=e, threads=t) for e in ENGINES for t in threads)]


def differences(seen: tuple[Array, Array], wanted: tuple[Array, Array]) -> dict[str, float]:
    """The largest of latents and of frames."""
    latents, frames = (
        float(np.abs(a.astype(np.float64) - b).max()) for a, b in zip(seen, wanted, strict=True)
    )
    return {"latent_difference": latents, "frame_difference": frames}


def agree(found: dict[str, float]) -> None:
    """NotToBeHadError if outputs are others; no number is no agreement."""
    for name, limit in LIMITS.items():
        if not found[name] <= limit:
            raise NotToBeHadError(f"its outputs are others: {name} {found[name]:.3g} > {limit:g}")


def spread(name: str, values: Sequence[float], digits: int) -> dict[str, float]:
    """Median, lowest, highest."""
    rounded = [round(v, digits) for v in (float(np.median(values)), min(values), max(values))]
    return dict(zip((name, f"{name}_low", f"{name}_high"), rounded, strict=True))


def measure(
    processes: Sequence[PeerProcess], blocks: int, repetitions: int, frames: int
) -> list[Findings]:
    """Compare, then time in turns; the first of the processes is ours, and the second is what
    outputs are compared with."""
    found: list[Findings] = []
    wanted = processes[1].outputs(COMPARED)
    for process in processes:
        print(f"{_title(process.peer)}: outputs …", file=sys.stderr)
        row: Findings = {"peer": process.peer.name, "threads": process.peer.threads}
        row |= {"workers": process.peer.workers, "not_measured": ""}
        found.append(row)
        try:
            seen = wanted if process is processes[1] else process.outputs(COMPARED)
            row |= differences(seen, wanted)
            agree(row)
        except NotToBeHadError as error:
            row["not_measured"] = str(error)
    times: list[list[float]] = [[] for _ in processes]
    for number in range(repetitions):
        print(f"repetition {number + 1} of {repetitions} …", file=sys.stderr)
        for process, row, seconds in zip(processes, found, times, strict=True):
            if not row["not_measured"]:
                seconds.append(process.period_s(blocks))
    for row, seconds in zip(found, times, strict=True):
        if seconds:
            row |= spread("ms_per_block", [1e3 * s for s in seconds], 1)
            row |= spread("fps", [frames / s for s in seconds], 1)
            gains = [s / ours for s, ours in zip(seconds, times[0], strict=True)]
            row |= spread("speed_up", gains, 3)
    return found


def _title(peer: Peer) -> str:
    return f"{peer.name}, {peer.workers} × {peer.threads} threads"


def tell(found: Sequence[Findings]) -> None:
    """Print the table."""
    rows = []
    for row in found:
        what = [row["peer"], f"{row['workers']} × {row['threads']}"]
        if row["not_measured"]:
            rows.append([*what, f"not measured: {row['not_measured']}", "", "", ""])
            continue
        cells = [
            f"{row[name]:g} ({row[f'{name}_low']:g}–{row[f'{name}_high']:g})"
            for name in ("ms_per_block", "fps", "speed_up")
        ]
        off = f"{row['latent_difference']:.1e}, {row['frame_difference']:g}"
        rows.append([*what, *cells, off])
    head = ["who", "workers × threads", "ms/block", "frames/s", "ours is faster by"]
    print(table([*head, "latents, frames off by"], rows))


@failing_in_words(RuntimeError)
def main(
    blocks: Annotated[int, typer.Option(min=2, help="of each peer in a turn")] = 12,
    repetitions: Annotated[int, typer.Option(min=1, help="turns")] = 5,
    threads: Annotated[
        int | None, typer.Option(min=1, help="of the others, besides one; all cores")
    ] = None,
    folder: Annotated[Path, typer.Option(help="artifacts: graphs and weights")] = (
        REPO / "artifacts" / "demo"
    ),
    release: Annotated[
        Path | None, typer.Option(help="your checkout of the release: time it as well")
    ] = None,
) -> None:
    """How fast is the pipeline beside what a user would run instead?"""
    config = PipelineConfig.load(folder / "pipeline.json")
    said = machine()
    used = sorted({1, threads or int(said["cores"])})
    with ExitStack() as stack:
        processes = [
            stack.enter_context(closing(PeerProcess(peer, config.preset, folder)))
            for peer in every_peer(*used)
        ]
        found = measure(processes, blocks, repetitions, config.video_frames_per_block)
    tell(found)
    theirs = released.measure(release)
    print(f"the release's own code: {released.words(theirs)}")
    report = {"benchmark": "peers", **said, "limits": LIMITS, "peers": found, "release": theirs}
    print(json.dumps(report))


if __name__ == "__main__":
    typer.run(main)
