"""The release's run on three rungs: PyTorch, ONNX in float32, ONNX in float16, block by block.

    make parity-ladder      prints the table of docs/fidelity.md

Every rung is the whole pipeline in one process: sink, re-calibration, four caches, decoder. Noise,
audio features, text rows and sink distances come from the fixture. On the last rung the DiT alone
is in float16, as it would be on a GPU; errors of a block are carried on by the caches and, through
the re-calibrated sink, by every later block.
"""

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from export.graphs.exporter import components_of, export_preset
from pipeline.avatar.local import local_executor
from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.avatar.request import AvatarRequest
from pipeline.engines.base import EngineLoader
from pipeline.engines.onnx import Engine
from pipeline.sessions.text import pad_text
from tests.golden import fixtures
from tests.golden.avatar.torch_engine import TorchEngine
from tests.support.fake_executor import FakeReply

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """What one program makes of the run."""

    latents: Array
    """[blocks, C, F, h, w]."""
    frames: NDArray[np.uint8]
    """[blocks, T, H, W, 3]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockErrors:
    """Largest errors of a block: latents as they are, frames in grey levels."""

    torch_release: float
    single_torch: float
    half_single: float
    single_frames: float
    """ONNX in float32 against PyTorch."""
    half_frames: float
    """ONNX in float16 against ONNX in float32."""
    half_frames_mean: float


def climb(folder: Path) -> list[BlockErrors]:
    """All rungs, with graphs and weights in `folder`."""
    weights, single, half = (folder / name for name in ("weights", "fp32", "fp16"))
    fixtures.write_weights(weights)
    export_preset(fixtures.preset(), weights, single)
    export_preset(fixtures.preset(), weights, half, dtype="fp16", components=["dit"])
    for path in single.iterdir():
        if not (half / path.name).exists():
            os.link(path, half / path.name)
    modules = play(single, torch_loader(weights))
    ones, halves = play(single, Engine), play(half, Engine)
    wanted = fixtures.load("tpp_run")["final_latents"].reshape(modules.latents.shape)
    return [
        BlockErrors(
            torch_release=_largest(modules.latents[b], wanted[b]),
            single_torch=_largest(ones.latents[b], modules.latents[b]),
            half_single=_largest(halves.latents[b], ones.latents[b]),
            single_frames=_largest(ones.frames[b], modules.frames[b]),
            half_frames=_largest(halves.frames[b], ones.frames[b]),
            half_frames_mean=float(_difference(halves.frames[b], ones.frames[b]).mean()),
        )
        for b in range(len(wanted))
    ]


def torch_loader(weights: Path) -> EngineLoader:
    """PyTorch modules in the place of the graphs of stages and decoder."""
    graphs = components_of(fixtures.preset())
    parts = [graphs[name](weights) for name in ("dit", "vae")]
    engines = {graph.name: TorchEngine(graph) for graphs in parts for graph in graphs}
    return lambda path, num_threads: engines[path.stem]


def play(folder: Path, load_engine: EngineLoader) -> Rung:
    """The run of the fixture through the pipeline in this process."""
    run = fixtures.load("tpp_run")
    clips, blocks = run["final_latents"].shape[:2]
    noise = [part for clip in run["noise"] for part in np.split(clip, blocks, axis=1)]
    asked = AvatarRequest(
        session=1,
        start=True,
        end=True,
        image=run["image_uint8"],
        text=pad_text(run["context"], fixtures.preset().pipeline),
        noise=np.stack(noise),
        sink_distance=run["relative_dist"].reshape(clips * blocks, -1),
        audio_features=run["audio_bucket"],
    )
    executor, reply = local_executor(folder, load_engine=load_engine), FakeReply()
    avatar = AvatarOrchestrator(executor.config, executor, max_sessions=1, idle_timeout_s=600)
    try:
        avatar.submit(asked, reply)
        failure = reply.wait(600)
    finally:
        avatar.stop()
        executor.stop()
    if failure:
        raise RuntimeError(failure)
    return Rung(
        latents=np.stack([block.latent[0] for block in reply.blocks]),
        frames=np.stack([block.frames for block in reply.blocks]),
    )


def _difference(one: NDArray, other: NDArray) -> NDArray[np.float64]:
    return np.abs(one.astype(np.float64) - other.astype(np.float64))


def _largest(one: NDArray, other: NDArray) -> float:
    return float(_difference(one, other).max())


def table(errors: list[BlockErrors]) -> str:
    """In Markdown."""
    lines = [
        "| block | PyTorch to release | ONNX fp32 to PyTorch | ONNX fp16 to fp32 | frames fp32 | "
        "frames fp16, largest (mean) |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {b} | {e.torch_release:.1e} | {e.single_torch:.1e} | {e.half_single:.1e} | "
        f"{e.single_frames:.0f} | {e.half_frames:.0f} ({e.half_frames_mean:.3f}) |"
        for b, e in enumerate(errors)
    ]
    return "\n".join(lines)


def main() -> int:
    if not (fixtures.LIVE_AVATAR / "manifest.json").is_file():
        print("the release's fixtures are not here: no ladder from PyTorch to float16")
        return 0
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        print(table(climb(Path(folder))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
