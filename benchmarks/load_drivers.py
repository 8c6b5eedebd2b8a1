"""The two that put load on `live_avatar`: perf_analyzer, and our own client.

perf_analyzer sends one list of steps per sequence, the first with START and the last with END, and
in each step those inputs alone that the step names: so the image goes out once.
"""

import base64
import json
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.load_report import Track
from deploy.downloads import perf_analyzer
from deploy.server.health import environment
from live_avatar_client import Session
from live_avatar_client.protocol import MODEL, SAMPLE_RATE
from live_avatar_client.requests import audio_tensors, start_tensors
from pipeline.engines.base import Array

PROMPT = "a person talks to the camera"
_CHUNK = SAMPLE_RATE // 10  # samples that our client sends at once

Step = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is sent, and for how long at most."""

    image: Path
    audio: Array  # float32 [samples] of one session
    samples_per_request: int  # perf_analyzer's; our client sends as it goes
    num_sequences: int
    """Sessions of one run, one after another and as many at a time as the run says."""
    limit_s: float
    folder: Path  # for perf_analyzer's files
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


def sequence(
    audio: Array, image: Path, *, samples_per_request: int, prompt: str, seed: int = 0
) -> list[Step]:
    """The steps of one session: START with image and audio, then audio; the last one is END. audio:
    float32 [samples], 16 kHz mono. ValueError if it fills fewer than two requests."""
    starts = range(0, len(audio), samples_per_request)
    if len(starts) < 2:
        raise ValueError(
            f"{len(audio)} samples in requests of {samples_per_request} are {len(starts)} "
            "request(s), wanted 2 or more: START and END"
        )
    steps: list[Step] = []
    for start in starts:
        (tensors,) = audio_tensors(audio[start : start + samples_per_request], whole=True)
        if start == 0:
            tensors = {**start_tensors(image, prompt=prompt, seed=seed), **tensors}
        steps.append({})
        for name, array in tensors.items():
            content = {"b64": base64.b64encode(array.tobytes()).decode()}
            steps[-1][name] = {"content": content, "shape": list(array.shape)}
    return steps


def write_sequences(path: Path, sequences: list[list[Step]]) -> None:
    """Write `--input-data` for perf_analyzer."""
    path.write_text(json.dumps({"data": sequences}))


def read_profile(path: Path, bytes_per_frame: int) -> list[Track]:
    """The sessions in perf_analyzer's `--profile-export-file`, in the order of their START.

    It holds every response with its time and its tensors as lists of numbers; empty final responses
    are left out here. bytes_per_frame: height x width x 3.
    """
    (experiment,) = json.loads(path.read_text())["experiments"]
    requests = defaultdict(list)
    for request in sorted(experiment["requests"], key=lambda request: request["timestamp"]):
        requests[request["sequence_id"]].append(request)
    return [_track(sent, bytes_per_frame) for sent in requests.values()]


def _track(requests: list[dict[str, Any]], bytes_per_frame: int) -> Track:
    arrivals = [list(_arrivals(request, bytes_per_frame)) for request in requests]
    return Track(
        started_s=1e-9 * requests[0]["timestamp"],
        blocks_s=[seconds for answer in arrivals for seconds, _ in answer],
        num_frames=sum(frames for answer in arrivals for _, frames in answer),
        answers_s=[
            answer[0][0] - 1e-9 * request["timestamp"]
            for request, answer in zip(requests[1:], arrivals[1:], strict=True)
            if answer
        ],
    )


def _arrivals(request: dict[str, Any], bytes_per_frame: int) -> Iterator[tuple[float, int]]:
    """Time and number of frames of every block that answers the request."""
    times, outputs = request["response_timestamps"], request["response_outputs"]
    for nanoseconds, tensors in zip(times, outputs, strict=True):
        if tensors.get("frames"):
            yield 1e-9 * nanoseconds, len(tensors["frames"]) // bytes_per_frame


def run_perf_analyzer(
    url: str, load: Load, num_sessions: int, bytes_per_frame: int
) -> tuple[list[Track], str]:
    """Its sessions and what it printed. RuntimeError with its words if it fails or is too slow."""
    load.folder.mkdir(parents=True, exist_ok=True)
    sequences = load.folder / "sequences.json"
    profile = load.folder / f"profile_{num_sessions}.json"
    profile.unlink(missing_ok=True)  # it refuses to overwrite
    size = load.samples_per_request
    steps = sequence(load.audio, load.image, samples_per_request=size, prompt=PROMPT)
    write_sequences(sequences, [steps])
    command = [*perf_analyzer.install(), "-m", MODEL, "-u", url, "-i", "grpc", "--streaming"]
    command += ["--concurrency-range", str(num_sessions), "--input-data", str(sequences)]
    command += ["--request-count", str(load.num_sequences * len(steps))]
    command += ["--profile-export-file", str(profile)]
    options: Any = {"env": environment(), "capture_output": True, "text": True}
    try:
        done = subprocess.run(command, timeout=load.seconds_left(), **options)
    except subprocess.TimeoutExpired:
        load.seconds_left()
        raise
    if done.returncode:
        raise RuntimeError(f"perf_analyzer failed:\n{(done.stdout + done.stderr).strip()}")
    return read_profile(profile, bytes_per_frame), done.stdout


def run_client(url: str, load: Load, num_sessions: int) -> list[Track]:
    """Threads with a session each, until all sequences are done; the first failure is raised."""
    with ThreadPoolExecutor(num_sessions) as pool:
        return list(pool.map(lambda _: stream(url, load), range(load.num_sequences)))


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
