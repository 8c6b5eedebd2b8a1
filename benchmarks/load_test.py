"""Several sessions at once: NVIDIA's perf_analyzer and our own client, side by side.

    python -m benchmarks.load_test

Both drive `live_avatar` over streaming gRPC with the same audio, with 1 and with 2 sessions at a
time. A server started by `make serve` is used and left running, else one is started for the moment.
The number of sessions and the time are bounded. The last line is one JSON object.
"""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import load_drivers, load_report
from benchmarks.load_drivers import Load
from benchmarks.load_report import figures
from benchmarks.report import machine
from deploy.checkout import REPO
from deploy.downloads import perf_analyzer
from deploy.outcome import exit_code, say
from deploy.server.local import LocalServer, server_left_running
from live_avatar_client import AvatarError, read_audio
from live_avatar_client.protocol import MODEL, SAMPLE_RATE
from live_avatar_client.stream import check_health
from pipeline.config.avatar import PipelineConfig

FOLDER = REPO / "build" / "load_test"
LEVELS = (1, 2)
"""Sessions at a time; the repository's own limit is 2."""
_WARM_UP_S = 2.0


@contextmanager
def serving(repository: Path) -> Iterator[tuple[str, Path]]:
    """The gRPC address and the repository of the server of `make serve`, or of one of our own."""
    if served := server_left_running():
        yield served
    else:
        say(f"starting Triton for {repository}")
        with LocalServer(repository, log_dir=FOLDER / "server") as server:
            yield server.grpc_url, repository


def measure(
    url: str, repository: Path, load: Load, levels: Sequence[int] = LEVELS
) -> dict[str, Any]:
    """The report: where and with what, and per driver the figures by the number of sessions. Key
    `perf_analyzer_said` holds its own tables as text."""
    config = PipelineConfig.load(repository / MODEL / "1" / "pipeline.json")
    report: dict[str, Any] = {
        "benchmark": "load_test",
        **machine(),
        "triton": check_health(url).version,
        "perf_analyzer_version": perf_analyzer.VERSION,
        "preset": config.preset,
        "picture": [config.height, config.width],
        "audio_s": len(load.audio) / SAMPLE_RATE,
        "request_s": load.samples_per_request / SAMPLE_RATE,
        "perf_analyzer": {},
        "client": {},
        "perf_analyzer_said": {},
    }
    say("warming up")
    few = load.audio[: int(_WARM_UP_S * SAMPLE_RATE)]
    load_drivers.stream(url, dataclasses.replace(load, audio=few))
    for level in levels:
        of_them = f"{load.num_sequences} sessions, {level} at a time"
        say(f"{of_them}: perf_analyzer")
        bytes_per_frame = config.height * config.width * 3
        tracks, said = load_drivers.run_perf_analyzer(url, load, level, bytes_per_frame)
        report["perf_analyzer"][level] = figures(tracks, level)
        report["perf_analyzer_said"][level] = said
        say(f"{of_them}: our client")
        report["client"][level] = figures(load_drivers.run_client(url, load, level), level)
    return report | {"load_after": round(os.getloadavg()[0], 2)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="perf_analyzer and our client, side by side.")
    parser.add_argument("--repository", type=Path, default=REPO / "build" / "model_repository")
    parser.add_argument("--image", type=Path, default=REPO / "examples" / "portrait.png")
    parser.add_argument("--audio", type=Path, default=REPO / "examples" / "speech.flac")
    parser.add_argument("--seconds", type=float, default=9.6, help="audio of a session, at most")
    parser.add_argument("--request-s", type=float, default=2.4, help="audio of a request")
    parser.add_argument("--sequences", type=int, default=4, help="sessions of each of the 4 runs")
    parser.add_argument("--limit-s", type=float, default=170.0, help="time for everything")
    parser.add_argument("--write-docs", action="store_true", help="write the page in docs/")
    given = parser.parse_args()
    if given.sequences < max(LEVELS):
        parser.error(f"--sequences is {given.sequences}, expected {max(LEVELS)} or more")
    return given


def _run(given: argparse.Namespace) -> None:
    perf_analyzer.install()
    audio = np.concatenate(list(read_audio(given.audio)))
    load = Load(
        image=given.image,
        audio=audio[: int(given.seconds * SAMPLE_RATE)],
        samples_per_request=int(given.request_s * SAMPLE_RATE),
        num_sequences=given.sequences,
        limit_s=given.limit_s,
        folder=FOLDER,
    )
    with serving(given.repository) as (url, repository):
        report = measure(url, repository, load)
    print(load_report.comparison(report))
    if given.write_docs:
        load_report.PAGE.write_text(load_report.page(report))
        say(f"wrote {load_report.PAGE}")
    del report["perf_analyzer_said"]
    print(json.dumps(report))


def main() -> int:
    given = _arguments()
    try:
        _run(given)
    except AvatarError as error:
        raise RuntimeError(str(error)) from None
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
