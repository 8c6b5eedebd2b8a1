"""F. Folding: a step and the VAE in two processes (`benchmarks.gpu_experiment.folded`), each alone,
then both on the one GPU. The step has some of the 14B layers only: a run is shorter, and its
kernels are as long as ever.
"""

import json
import subprocess
import sys
from typing import Any

import numpy as np

from benchmarks.gpu_experiment.phase import Findings

WORKS = ("step", "vae")
WORKER = "benchmarks.gpu_experiment.folded"
NO_MEMORY = "a CPU's memory says nothing of a GPU's"


class Worker:
    """One process that repeats its work when it is told to."""

    def __init__(self, work: str, is_miniature: bool) -> None:
        command = [sys.executable, "-m", WORKER, work, *["--miniature"] * is_miniature]
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
