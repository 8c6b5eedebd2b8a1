"""Two supervised servers behind the chart's Envoy, and talks with them."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np

from deploy.server import folder
from deploy.server.health import open_sessions
from deploy.server.ports import ADDRESS, Ports, free_ports, why_taken
from live_avatar_client import Session
from tests.support.raw_stream import IMAGE
from tests.support.waiting import happens

BLOCK = 7680  # samples


class Server:
    """As `python -m deploy.server start` leaves it, with its supervisor."""

    def __init__(self, log_dir: Path, repository: Path) -> None:
        self.log_dir, self.repository, self.ports = log_dir, repository, free_ports()

    @property
    def url(self) -> str:
        return f"{ADDRESS}:{self.ports.grpc}"

    @property
    def pid(self) -> int:
        state = folder.running_server(self.log_dir)
        assert state is not None
        return int(state["pid"])

    @property
    def num_sessions(self) -> int:
        return open_sessions(self.ports) or 0

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "deploy.server", "--log-dir", str(self.log_dir), *words]

    def start(self) -> Self:
        ports = [w for name, p in asdict(self.ports).items() for w in (f"--{name}-port", str(p))]
        words = self.command("start", "--repository", str(self.repository), *ports)
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return self

    def stop(self) -> None:
        subprocess.run(self.command("stop"), check=True, capture_output=True)

    def is_ready(self) -> bool:
        return subprocess.run(self.command("status"), capture_output=True).returncode == 0


class Talk(threading.Thread):
    """Somebody who speaks for so many blocks, in real time, and gets them."""

    def __init__(self, url: str, num_blocks: int, **options: Any) -> None:
        super().__init__()
        self.url, self.num_blocks, self.options = url, num_blocks, options
        self.arrivals_s: list[float] = []  # on `time.monotonic`'s clock
        self.num_frames = 0
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        session = Session(url=self.url, image=IMAGE.tobytes(), idle=False, **self.options)
        try:
            with session:
                for block in session.stream(self._speech()):
                    assert block.frame_index == self.num_frames
                    self.num_frames += len(block.frames)
                    self.arrivals_s.append(time.monotonic())
        except Exception as error:
            self.error = error

    def _speech(self) -> Iterator[np.ndarray]:
        began_s = time.monotonic()
        voice = np.random.default_rng(0).standard_normal(BLOCK).astype(np.float32) / 10
        for number in range(self.num_blocks):
            time.sleep(max(0.0, began_s + 0.48 * number - time.monotonic()))
            yield voice

    def begins(self) -> Self:
        """Return when its first block is there."""
        assert happens(lambda: bool(self.arrivals_s) or self.error is not None, 60), "no block"
        assert self.error is None, self.error
        return self

    def ends(self) -> None:
        """Every frame came."""
        self.join(120)
        assert not self.is_alive(), f"{self.num_frames} frames after two minutes"
        assert self.error is None, self.error
        assert self.num_frames == 12 * self.num_blocks


def ports_of(servers: list[Server]) -> list[Ports]:
    return [server.ports for server in servers]


@contextmanager
def taken(server: Server, num_places: int) -> Iterator[list[Session]]:
    """Places of a server that are taken directly, past the proxy."""
    sessions = [Session(url=server.url, image=IMAGE.tobytes()) for _ in range(num_places)]
    try:
        for session in sessions:
            session.open()
            session.send(np.zeros(BLOCK + 3200, np.float32))
            assert next(iter(session)).block == 0
        yield sessions
    finally:
        for session in sessions:
            with suppress(Exception):
                session.close()


def await_known(servers: list[Server]) -> None:
    """Let the metrics and Envoy's next look at them pass."""
    assert happens(lambda: all(why_taken(server.ports.ready) for server in servers), 10)
    time.sleep(2.0)
