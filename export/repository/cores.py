"""How a CPU's cores are shared out among the stages (docs/deploy.md). Standard library only."""

import os
from dataclasses import dataclass
from pathlib import Path

from export.repository.placement import folded

QUOTA = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """What the stages of one deployment get."""

    cores: int
    steps: tuple[tuple[int, ...], ...]  # denoising steps of every stage
    threads: int  # of every stage

    @property
    def text(self) -> str:
        """The steps as `parse_steps` reads them."""
        return " ".join(",".join(map(str, stage)) for stage in self.steps)

    def __str__(self) -> str:
        cores, threads = _counted(self.cores, "core"), _counted(self.threads, "thread")
        return f'{cores}: STEPS="{self.text}" with {threads} each; name others to change it'


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def num_cores(quota: Path = QUOTA) -> int:
    """Cores that this process may use: a container's quota may be smaller than its set of cores."""
    allowed = len(os.sched_getaffinity(0))
    try:
        share, period = quota.read_text().split()
        return max(1, min(allowed, int(share) // int(period)))
    except (OSError, ValueError):  # no such group, or its quota is `max`
        return allowed


def shared_out(num_steps: int, cores: int, *, live: bool = False) -> Shares:
    """As many stages as cores where these divide the steps evenly, else one for each step; what is
    left over goes to their threads. For a `live` talk there is a stage for each step, and all cores
    work for each: a block comes sooner and may be given up between two steps, and fewer blocks come
    in a second.

    A stage too many costs memory, prefills and switches; unequal stages wait for the largest.
    """
    num_stages = cores if num_steps % cores == 0 and not live else num_steps
    threads = cores if live else max(1, cores // num_stages)
    return Shares(cores=cores, steps=folded(num_steps, num_stages), threads=threads)
