"""The two that put load on `live_avatar`: perf_analyzer, and our own client."""

import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import load_sequences
from benchmarks.load_figures import Track
from deploy.downloads import perf_analyzer
from deploy.server.health import environment
from live_avatar_client import Session
from live_avatar_client.protocol import MODEL, SAMPLE_RATE
from pipeline.engines.base import Array

PROMPT = "a person talks to the camera"
_CHUNK = SAMPLE_RATE // 10  # samples that our client sends at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is sent, and for how long at most."""

    image: Path
    audio: Array
    """float32 [samples] of one session."""
    samples_per_request: int
    """perf_analyzer's; our client sends as it goes."""
    num_sequences: int
    """Sessions of one run, one after another and as many at a time as the run says."""
    limit_s: float
    folder: Path
    """For perf_analyzer's files."""
    began_s: float = field(default_factory=time.monotonic)

    def seconds_left(self) -> float:
        """Above 0; RuntimeError when the time is up."""
        left_s = self.began_s + self.limit_s - time.monotonic()
        if left_s <= 0:
            raise RuntimeError(
                f"the load test took longer than its {self.limit_s:g} s.\n"
                "  Fix: fewer --sequences, or a higher --limit-s"
            )
        return left_s


def run_perf_analyzer(
    url: str, load: Load, num_sessions: int, bytes_per_frame: int
) -> tuple[list[Track], str]:
    """Its sessions and what it printed. RuntimeError with its words if it fails or is too slow."""
    load.folder.mkdir(parents=True, exist_ok=True)
    sequences = load.folder / "sequences.json"
    profile = load.folder / f"profile_{num_sessions}.json"
    profile.unlink(missing_ok=True)  # it refuses to overwrite
    steps = load_sequences.sequence(
        load.audio, load.image, samples_per_request=load.samples_per_request, prompt=PROMPT
    )
    load_sequences.write(sequences, [steps])
    command = [*perf_analyzer.install(), "-m", MODEL, "-u", url, "-i", "grpc", "--streaming"]
    command += ["--concurrency-range", str(num_sessions), "--input-data", str(sequences)]
    command += ["--request-count", str(load.num_sequences * len(steps))]
    command += ["--profile-export-file", str(profile)]
    try:
        done = subprocess.run(
            command,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=load.seconds_left(),
        )
    except subprocess.TimeoutExpired:
        load.seconds_left()
        raise
    if done.returncode:
        raise RuntimeError(f"perf_analyzer failed:\n{(done.stdout + done.stderr).strip()}")
    return load_sequences.read_profile(profile, bytes_per_frame), done.stdout


def run_client(url: str, load: Load, num_sessions: int) -> list[Track]:
    """Threads with a session each, until all sequences are done; the first failure is raised."""
    tracks: list[Track] = []
    failures: list[Exception] = []

    def feed(num_sequences: int) -> None:
        try:
            tracks.extend(stream(url, load) for _ in range(num_sequences))
        except Exception as error:
            failures.append(error)

    share, rest = divmod(load.num_sequences, num_sessions)
    threads = [
        threading.Thread(target=feed, args=(share + (thread < rest),))
        for thread in range(num_sessions)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return tracks


def stream(url: str, load: Load) -> Track:
    """One session of our client, its audio as fast as the server takes it."""
    started_s = time.perf_counter()
    with Session(url=url, image=load.image, prompt=PROMPT, idle=False) as session:
        blocks = list(session.stream(_chunks(load)))
    return Track(
        started_s=started_s,
        blocks_s=[block.received_s for block in blocks],
        num_frames=sum(len(block.frames) for block in blocks),
    )


def _chunks(load: Load) -> Iterator[Array]:
    for start in range(0, len(load.audio), _CHUNK):
        load.seconds_left()
        yield load.audio[start : start + _CHUNK]
