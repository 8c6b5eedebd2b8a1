"""Several learners as one: processes of one thread each (two threads gain little on small tensors).

Each sees pieces of its own. Gradients are averaged, so all keep equal weights.
"""

import argparse
import multiprocessing
from collections.abc import Callable

import torch
from torch import Tensor

from train.learning.options import saved_state

PATIENCE = 600.0  # seconds that one learner waits for another, which may be scoring or saving


class Together:
    """What `count` learners of `size` parameters share: a row of gradients each, and the first
    one's progress."""

    def __init__(self, count: int, size: int) -> None:
        self.rows = torch.zeros(count, size).share_memory_()
        self.progress = torch.zeros(1, dtype=torch.float64).share_memory_()
        self.barrier = multiprocessing.get_context("spawn").Barrier(count)

    def mean(self, tensors: list[Tensor], rank: int) -> None:
        """Replace each tensor by its mean over all learners; equal sums everywhere."""
        size = sum(t.numel() for t in tensors)
        torch.cat([t.flatten() for t in tensors], out=self.rows[rank, :size])
        self.barrier.wait(PATIENCE)
        mean = self.rows[:, :size].mean(0)
        self.barrier.wait(PATIENCE)
        for t, part in zip(tensors, mean.split([t.numel() for t in tensors]), strict=True):
            t.copy_(part.view_as(t))

    def agree(self, progress: float, rank: int) -> float:
        if rank == 0:
            self.progress.fill_(progress)
        self.barrier.wait(PATIENCE)
        agreed = float(self.progress)
        self.barrier.wait(PATIENCE)
        return agreed


def start_learners(
    args: argparse.Namespace,
    size: int,
    learner: Callable[[argparse.Namespace, Together | None, int], None],
) -> None:
    """Run `args.threads` learners of one thread each; this process is the first of them. `learner`
    must not be of a `__main__` module: other processes could not find it."""
    if args.resume:
        saved_state(args.out)  # before a process is started
    together = Together(args.threads, size) if args.threads > 1 else None
    spawn = multiprocessing.get_context("spawn")
    ranks = range(1, args.threads)
    others = [spawn.Process(target=learner, args=(args, together, rank)) for rank in ranks]
    for process in others:
        process.start()
    try:
        learner(args, together, 0)
    except BaseException:
        for process in others:
            process.terminate()
        raise
    for process in others:
        process.join()
