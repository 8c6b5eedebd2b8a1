"""Does a server stay as it is, for days? Two endless sessions on the real server, with models
that are loaded anew under them.

    python -m benchmarks.soak --blocks 10000 --reloads 20
    python -m benchmarks.soak --blocks 300 --reloads 2

Prints the slopes of memory, shared memory, threads and descriptors, of the server and of each of
its models, per thousand blocks. Exit code 1 if one of them is not zero within its noise. The last
line is one JSON object; --plot draws what was seen.
"""

import itertools
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer
from tqdm import tqdm

from benchmarks.report import machine, table
from deploy.server import process
from deploy.server.health import reload_model
from deploy.server.local import LocalServer
from export.commands import failing_in_words
from live_avatar_client import AvatarError, Session, read_audio
from live_avatar_client.protocol import Array

IMAGE, SPEECH = Path("examples/portrait.png"), Path("examples/speech.flac")
STAGES = ("dit_stage_0", "dit_stage_1")
SAMPLES, PERIOD_S, SETTLED = 7680, 5.0, 0.25
LIMITS = {"rss_mb": 1.0, "shm_mb": 0.05, "threads": 0.1, "fds": 0.1}
"""Per thousand blocks: what may be noise. A leak of one kB in each block would be 1 MB."""
Sample = dict[str, dict[str, float]]
"""Of every process, by its model: figures by name."""


@dataclass(eq=False)
class Talk:
    """An endless session as fast as the server allows."""

    url: str
    num_blocks: int
    done: int = 0
    words: str = ""
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def _speech(self) -> Iterator[Array]:
        speech = np.concatenate(list(read_audio(SPEECH)))
        for start in range(0, self.num_blocks * SAMPLES, SAMPLES):
            yield speech.take(range(start, start + SAMPLES), mode="wrap")

    def _run(self) -> None:
        try:
            with Session(url=self.url, image=IMAGE, idle=False) as session:
                for _ in session.stream(self._speech()):
                    self.done += 1
        except AvatarError as error:
            self.words = str(error)


def sample(server: LocalServer) -> Sample:
    """Of the server and each of its models, and of the shared memory of all."""
    found: Sample = {}
    for pid in (server.pid, *server.stub_pids()):
        name = "tritonserver" if pid == server.pid else process.stub_model(pid)
        one = psutil.Process(pid)
        rss_mb = one.memory_info().rss / 2**20
        found[name] = {"rss_mb": rss_mb, "threads": one.num_threads(), "fds": one.num_fds()}
    regions = [e for e in Path("/dev/shm").iterdir() if server.token in e.name]
    found["shared memory"] = {"shm_mb": sum(e.stat().st_blocks * 512 for e in regions) / 2**20}
    return found


def slopes(seen: list[tuple[int, Sample]]) -> Sample:
    """Per thousand blocks, over what came after the first quarter."""
    last = seen[-1][0]
    kept = [(at, found) for at, found in seen if at >= SETTLED * last]
    blocks = np.array([at for at, _ in kept]) / 1000
    return {
        name: {
            key: float(np.polyfit(blocks, [found[name][key] for _, found in kept], 1)[0])
            for key in kept[0][1][name]
        }
        for name in kept[0][1]
        if all(name in found for _, found in kept)
    }


def draw(seen: list[tuple[int, Sample]], path: Path) -> None:
    """Resident memory over blocks."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 5))
    for name in seen[0][1]:
        values = [found.get(name, {}) for _, found in seen]
        key = "shm_mb" if name == "shared memory" else "rss_mb"
        axes.plot([at for at, _ in seen], [v.get(key, np.nan) for v in values], label=name)
    axes.set_xlabel("blocks of both sessions")
    axes.set_ylabel("MB")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120, bbox_inches="tight")


def soaked(
    server: LocalServer, blocks: int, reloads: int
) -> tuple[list[tuple[int, Sample]], list[str]]:
    """Samples by the number of blocks, and what ended the sessions before their time."""
    talks = [Talk(server.grpc_url, blocks) for _ in range(2)]
    seen, due = [], itertools.cycle(STAGES)
    with tqdm(total=2 * blocks, unit="block", file=sys.stderr) as bar:
        num_reloads = 0
        while not all(talk.is_over for talk in talks):
            time.sleep(PERIOD_S)
            done = sum(talk.done for talk in talks)
            if num_reloads < reloads and done > 2 * blocks * (num_reloads + 1) / (reloads + 2):
                reload_model(server.ports, next(due), server.admin_key)
                num_reloads += 1
            seen.append((done, sample(server)))
            bar.update(done - bar.n)
    return seen, [talk.words for talk in talks if talk.words]


@failing_in_words(RuntimeError)
def main(
    repository: Path = Path("build/model_repository"),
    blocks: Annotated[int, typer.Option(min=50, help="of each of two sessions")] = 10_000,
    reloads: Annotated[int, typer.Option(min=0, help="of stages, while they go on")] = 20,
    plot: Annotated[Path | None, typer.Option(help="a picture of the memory")] = None,
) -> None:
    """Does a server stay as it is, for days?"""
    with LocalServer(repository, log_dir=Path(tempfile.mkdtemp(prefix="soak-"))) as server:
        began = time.monotonic()
        seen, words = soaked(server, blocks, reloads)
        took_s = time.monotonic() - began
    found = slopes(seen)
    rows = [[name, *(values.get(key, "") for key in LIMITS)] for name, values in found.items()]
    print(table(["per 1,000 blocks", *LIMITS], rows))
    over = [
        f"{name}: {key} {value:+.2f}"
        for name, values in found.items()
        for key, value in values.items()
        if value > LIMITS[key]
    ]
    report: dict[str, Any] = {"benchmark": "soak", **machine(), "blocks": seen[-1][0]}
    report |= {"reloads": reloads, "seconds": round(took_s), "slopes": found}
    if plot:
        draw(seen, plot)
    print(json.dumps(report | {"ended": words, "over": over}))
    if words or over:
        raise RuntimeError("; ".join([*words, *over]))


if __name__ == "__main__":
    typer.run(main)
