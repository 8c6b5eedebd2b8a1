"""F. Folding: a step and the VAE in two processes, each alone, then both on the one GPU.

    python -m benchmarks.gpu_experiment.folding WORK [--miniature]

is one of the two. It answers each line of its input, a number of seconds, with a line: how long
each run of that time took. The step has some of the 14B layers only: a run is shorter, and its
kernels are as long as ever.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.gpu_experiment.clock import NO_MEMORY
from benchmarks.gpu_experiment.phase import Findings

WORKS = ("step", "vae")
NUM_LAYERS = 10


class Worker:
    """One process that repeats its work when it is told to."""

    def __init__(self, work: str, is_miniature: bool) -> None:
        command = [sys.executable, "-m", __name__, work, *["--miniature"] * is_miniature]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._work = work
        self._process = subprocess.Popen(command, **pipes)
        self.memory: dict[str, int] | None = self.answer()

    def ask(self, seconds: float) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """RuntimeError if it has died; its own words are in the log."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"worker {self._work} ended with {self._process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def measure(findings: Findings, is_miniature: bool) -> None:
    seconds = 0.2 if is_miniature else 3.0
    workers: list[Worker] = []
    used = 0
    for work in WORKS:
        workers.append(Worker(work, is_miniature))
        memory = workers[-1].memory
        if memory is None:
            findings.without(f"process_bytes_{work}", NO_MEMORY)
        else:  # beside what torch holds: context, loaded kernels, handles
            findings.figure(f"process_bytes_{work}", memory["used"] - used - memory["held"])
            used = memory["used"]
    alone = [_medians([worker], seconds)[0] for worker in workers]
    together = _medians(workers, seconds)
    for worker in workers:
        worker.close()
    findings.figure("num_layers", 2 if is_miniature else NUM_LAYERS)
    for work, one, shared in zip(WORKS, alone, together, strict=True):
        findings.figure(f"{work}_alone_ms", one)
        findings.figure(f"{work}_shared_ms", shared)
        findings.figure(f"{work}_slower", round(shared / one, 3))
    rates = sum(one / shared for one, shared in zip(alone, together, strict=True))
    findings.figure("work_done_together", round(rates, 3))  # 1: time is only shared out


def _medians(workers: list[Worker], seconds: float) -> list[float]:
    """Milliseconds of each worker's run, all of them at work at once."""
    for worker in workers:
        worker.ask(seconds)
    return [round(float(np.median(worker.answer())), 3) for worker in workers]


def _work(name: str, is_miniature: bool) -> Callable[[], object]:
    """What a process repeats; each call returns when it is done."""
    from benchmarks.gpu_experiment import trunk, vae
    from benchmarks.gpu_experiment.device import CUDA, GPU

    device = "cpu" if is_miniature else GPU
    if name == "vae":
        run: Callable[[], object] = vae.Passes(vae.preset_of(is_miniature), device).decode
    else:
        run = trunk.Trunk(trunk.preset_of(is_miniature, NUM_LAYERS), device).run
    if is_miniature:
        return run

    def waiting() -> None:
        run()
        CUDA.synchronize()

    return waiting


def _memory(is_miniature: bool) -> dict[str, int] | None:
    """Bytes that are used on the GPU, and those that torch holds here."""
    if is_miniature:
        return None
    from benchmarks.gpu_experiment.device import CUDA

    free, total = CUDA.mem_get_info()
    return {"used": total - free, "held": CUDA.memory_reserved()}


def main(name: str, *options: str) -> None:
    is_miniature = "--miniature" in options
    work = _work(name, is_miniature)
    for _ in range(2):
        work()
    print(json.dumps(_memory(is_miniature)), flush=True)
    for line in sys.stdin:
        until, found = time.perf_counter() + float(line), []
        while (began := time.perf_counter()) < until:
            work()
            found.append(round(1e3 * (time.perf_counter() - began), 3))
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
