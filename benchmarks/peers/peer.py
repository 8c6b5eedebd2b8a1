"""One way to run the avatar's stations, as a process of its own that does what it is told."""

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.avatar_line import AvatarLine
from benchmarks.schedule_workers import (
    FILLED,
    NUM_STATIONS,
    Visit,
    forcing,
    grouped,
    period_s,
    sequential,
)
from pipeline.config.avatar import PipelineConfig
from pipeline.engines.base import Array, EngineLoader
from pipeline.engines.onnx import Engine

SESSION = 1
LIMIT_S = 600.0
"""For an answer: torch.compile takes a minute, and much longer on a busy machine."""
ENGINES = ("ONNX Runtime", "PyTorch eager", "torch.compile")
"""The first runs the exported graphs, the others the modules that these are exported from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """`engine` is one of ENGINES. With five `workers` every station has one, as on the server;
    with one, a block passes all of them before the next one begins. `threads` of a worker."""

    name: str
    engine: str
    threads: int
    workers: int = 1


class NotToBeHadError(Exception):
    """A peer that cannot run here; its words are the reason."""


class PeerProcess:
    """A peer, loaded, with one session open. Its calls raise NotToBeHadError."""

    def __init__(self, peer: Peer, preset: str, folder: Path) -> None:
        self.peer = peer
        context = multiprocessing.get_context("spawn")
        self._said, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, peer, preset, folder), daemon=True
        )
        self._process.start()
        theirs.close()

    def outputs(self, blocks: int) -> tuple[Array, Array]:
        """Latents [blocks, 1, C, F, h, w] and frames [blocks, T, H, W, 3] of the next blocks."""
        latents, frames = self._ask("outputs", blocks)
        return latents, frames

    def period_s(self, blocks: int) -> float:
        """Mean seconds from block to block, in the steady state."""
        return float(self._ask("period_s", blocks))

    def _ask(self, what: str, blocks: int) -> Any:
        try:
            self._said.send((what, blocks))
            if not self._said.poll(LIMIT_S):
                raise NotToBeHadError(f"it gave no answer within {LIMIT_S:g} s")
            answer = self._said.recv()
        except (EOFError, OSError) as error:
            self._process.join(5)
            code = self._process.exitcode
            raise NotToBeHadError(f"its process ended with {code}") from error
        if isinstance(answer, str):
            raise NotToBeHadError(answer)
        return answer

    def close(self) -> None:
        """End the process, whatever it does."""
        self._said.close()
        self._process.join(5)
        self._process.kill()
        self._process.join()


class _Running:
    """What the process holds."""

    def __init__(self, peer: Peer, preset: str, folder: Path) -> None:
        config = PipelineConfig.load(folder / "pipeline.json")
        steps = None if peer.workers > 1 else [range(config.num_steps)]
        line = AvatarLine(folder, steps, peer.threads, loader(peer, preset, folder))
        self.peer, self.done = peer, 0
        self._session = line.stations(SESSION)  # as long as this object lives
        self.stations = self._session.__enter__()

    def outputs(self, blocks: int) -> tuple[Array, Array]:
        seen: list[tuple[Array, Array]] = []
        *before, decode = self.stations

        def recording(block: int, latent: Any) -> None:
            seen.append((latent.copy(), decode(block, latent).copy()))

        self._run([*before, recording], blocks)
        latents, frames = (np.stack(arrays) for arrays in zip(*seen, strict=True))
        return latents, frames

    def period_s(self, blocks: int) -> float:
        return period_s(self._run(self.stations, FILLED + blocks + NUM_STATIONS))

    def _run(self, stations: list[Visit], blocks: int) -> list[float]:
        """The next blocks of the session; when each was finished."""
        first = self.done
        self.done += blocks
        shifted = [_shifted(station, first) for station in stations]
        if self.peer.workers == 1:
            return sequential(shifted, blocks)
        return forcing(grouped(shifted, self.peer.workers), blocks)


def loader(peer: Peer, preset: str, folder: Path) -> EngineLoader:
    """What loads the graphs of this peer."""
    if peer.engine == "ONNX Runtime":
        return lambda path, threads: Engine(path, threads, spinning=threads > 1)
    import torch

    from benchmarks.peers.torch_graphs import TorchGraph, modules_of

    if compiles := peer.engine == "torch.compile":
        find_compiler()
    torch.set_num_threads(peer.threads)
    modules = modules_of(preset, folder)
    return lambda path, _: TorchGraph(path, modules, compiles=compiles)


def find_compiler() -> None:
    """NotToBeHadError without a C++ compiler that torch would take."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise NotToBeHadError(
            "torch.compile needs a C++ compiler, and there is none: apt-get install g++"
        ) from error


def _shifted(station: Visit, first: int) -> Visit:
    return lambda block, given: station(first + block, given)


def _serve(said: Connection, peer: Peer, preset: str, folder: Path) -> None:
    """Answer until the other end is closed; a failure is answered in words."""
    running: _Running | None = None
    while True:
        try:
            what, blocks = said.recv()
        except (EOFError, OSError):
            return
        try:
            running = running or _Running(peer, preset, folder)
            call: Callable[[int], Any] = getattr(running, what)
            said.send(call(blocks))
        except Exception as error:
            words = str(error).strip().splitlines()
            said.send(words[0] if words else type(error).__name__)
