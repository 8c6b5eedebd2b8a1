"""The file from which perf_analyzer generates its sessions, and the file it leaves behind.

perf_analyzer sends one list of steps per sequence, the first with START and the last with END, and
in each step those inputs alone that the step names: so the image goes out once.
"""

import base64
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.load_figures import Track
from live_avatar_client.requests import audio_tensors, start_tensors
from pipeline.engines.base import Array

Step = dict[str, dict[str, Any]]


def sequence(
    audio: Array, image: Path, *, samples_per_request: int, prompt: str, seed: int = 0
) -> list[Step]:
    """The steps of one session: START with image and audio, then audio; the last one is END.

    audio: float32 [samples], 16 kHz mono. ValueError if it fills fewer than two requests.
    """
    starts = range(0, len(audio), samples_per_request)
    if len(starts) < 2:
        raise ValueError(
            f"{len(audio)} samples in requests of {samples_per_request} are {len(starts)} "
            "request(s), wanted 2 or more: START and END"
        )
    steps = []
    for start in starts:
        (tensors,) = audio_tensors(audio[start : start + samples_per_request], whole=True)
        if start == 0:
            tensors = {**start_tensors(image, prompt=prompt, seed=seed), **tensors}
        steps.append(_step(tensors))
    return steps


def write(path: Path, sequences: list[list[Step]]) -> None:
    """Write `--input-data` for perf_analyzer."""
    path.write_text(json.dumps({"data": sequences}))


def _step(tensors: Mapping[str, Array]) -> Step:
    return {
        name: {
            "content": {"b64": base64.b64encode(array.tobytes()).decode()},
            "shape": list(array.shape),
        }
        for name, array in tensors.items()
    }


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
