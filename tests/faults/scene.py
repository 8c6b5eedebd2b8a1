"""A supervised server with two people who talk, and somebody who watches its health."""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.server import folder, process
from deploy.server.ports import ADDRESS, Ports, free_ports
from export.repository.assemble import assemble
from tests.faults.talks import Talk
from tests.server.test_configurations import set_parameter
from tests.support.raw_stream import IMAGE, Stream
from tests.support.waiting import happens

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "artifacts" / "demo"
PLACES, NUM_BLOCKS, STRIKES_AT = 4, 26, 8
HOLDERS = ("live_avatar", "dit_stage_0", "dit_stage_1", "vae_decoder")


@dataclass(eq=False)
class Health:
    """Asks /ready all the time: `changes` are the moments at which the answer changed."""

    port: int

    def __post_init__(self) -> None:
        self.changes: list[tuple[float, bool]] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        return bool(self.changes) and self.changes[-1][1]

    def close(self) -> None:
        self._is_over.set()
        self._thread.join()

    def red_after_s(self, since_s: float) -> float | None:
        """Seconds from a moment until it was red, if it was."""
        reds = [
            at_s - since_s for at_s, is_ready in self.changes if at_s >= since_s and not is_ready
        ]
        return min(reds, default=None)

    def _watch(self) -> None:
        while not self._is_over.wait(0.03):
            is_ready = self._ask()
            if not self.changes or self.changes[-1][1] != is_ready:
                self.changes.append((time.monotonic(), is_ready))

    def _ask(self) -> bool:
        connection = http.client.HTTPConnection(ADDRESS, self.port, timeout=2)
        try:
            connection.request("GET", "/ready")
            return bool(json.loads(connection.getresponse().read())["ready"])
        except (OSError, http.client.HTTPException, ValueError):
            return False
        finally:
            connection.close()


class Scene:
    """`make serve` in a folder of its own, with four places, two of them taken in every scene."""

    def __init__(self, at: Path) -> None:
        self.log_dir = at / "log"
        self.repository = assemble(DEMO, at / "repository", steps="0,1 2,3")
        for model in HOLDERS:
            set_parameter(self.repository, model, "max_sessions", str(PLACES))
        self.ports: Ports = free_ports()
        self.url = f"{ADDRESS}:{self.ports.grpc}"
        self.peace_gap_s = 0.0  # the longest between two blocks when nothing happens
        self.tokens: list[str] = []
        self.wanted: list[list[int]] = []  # checksums of the two talks in peace

    def start(self) -> None:
        """The server and its supervisor, as `make serve` does."""
        command = [sys.executable, "-m", "deploy.server", "--log-dir", str(self.log_dir), "start"]
        command += ["--repository", str(self.repository)]
        for name, port in asdict(self.ports).items():
            command += [f"--{name}-port", str(port)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        self._note_token()

    def stop(self) -> None:
        """As `make stop` does; nothing is left of it."""
        self._note_token()
        command = [sys.executable, "-m", "deploy.server", "--log-dir", str(self.log_dir), "stop"]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        assert happens(lambda: self.leftovers() == [], within_s=5), self.leftovers()

    @property
    def pid(self) -> int:
        state = folder.running_server(self.log_dir)
        assert state
        return int(state["pid"])

    def pid_of(self, model: str) -> int:
        """Of a model's process."""
        state = folder.running_server(self.log_dir)
        assert state
        stubs = process.stub_pids(state["token"], state["pid"])
        (pid,) = [pid for pid in stubs if process.stub_model(pid) == model]
        return pid

    def talks(self) -> list[Talk]:
        return [Talk(self.url, seed, NUM_BLOCKS) for seed in (1, 2)]

    def stream(self) -> Stream:
        """One more visitor, without the client's manners."""
        return Stream(self)  # type: ignore[arg-type]  # it reads no more than the address

    @property
    def grpc_url(self) -> str:
        return self.url

    def is_served(self) -> bool:
        """Whether a new session is."""
        probe = self.stream()
        try:
            served = probe.ask(start=True, image=IMAGE) == (0, "")
            probe.ask(end=True)
            return served
        except Exception:  # of whatever the client library raises without a server
            return False
        finally:
            probe.close()

    def leftovers(self) -> list[str]:
        """Processes and shared memory of our servers that are gone."""
        self._note_token()
        state, found = folder.running_server(self.log_dir), []
        for token in self.tokens:
            if state and state["token"] == token:
                continue
            found += [f"process {pid}" for pid in process.stub_pids(token, 0)]
            found += [entry.name for entry in Path("/dev/shm").iterdir() if token in entry.name]
        return found

    def _note_token(self) -> None:
        state = folder.running_server(self.log_dir)
        if state and state["token"] not in self.tokens:
            self.tokens.append(state["token"])


@contextmanager
def scene(at: Path) -> Iterator[Scene]:
    """Started, and both talks heard once in peace."""
    made = Scene(at)
    made.start()
    try:
        talks = made.talks()
        assert all(talk.join(60) for talk in talks)
        made.wanted = [talk.checksums for talk in talks]
        made.peace_gap_s = max(talk.gap_s() for talk in talks)
        yield made
    finally:
        made.stop()


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
