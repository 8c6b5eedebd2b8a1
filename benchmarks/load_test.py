"""Several sessions at once: NVIDIA's perf_analyzer and our own client, side by side.

    python -m benchmarks.load_test

Both drive `live_avatar` over streaming gRPC with the same audio, with 1, 2, 4 and 8 sessions at a
time. A server started by `make serve` is used and left running, and numbers beyond its places are
left out. Else a server with places for all is started for the moment. The number of sessions and
the time are bounded. The last line is one JSON object.
"""

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import load_drivers, load_report
from benchmarks.load_drivers import Load
from benchmarks.load_report import figures
from benchmarks.report import machine
from deploy.checkout import REPO
from deploy.downloads import perf_analyzer
from deploy.outcome import say
from deploy.server.local import LocalServer, server_left_running
from export.commands import failing_in_words
from export.repository.folders import link_or_copy
from export.repository.pbtxt import with_parameter
from live_avatar_client import AvatarError, read_audio
from live_avatar_client.protocol import MODEL, SAMPLE_RATE
from live_avatar_client.stream import check_health
from pipeline.config.avatar import PipelineConfig

FOLDER = REPO / "build" / "load_test"
LEVELS = (1, 2, 4, 8)
"""Sessions at a time; a repository for a CPU has two places by itself."""
PLACES = re.compile(r'key: "max_sessions" value { string_value: "(\d+)"')
_WARM_UP_S = 2.0


@contextmanager
def serving(repository: Path) -> Iterator[tuple[str, Path]]:
    """The gRPC address and the repository of the server of `make serve`, or of one of our own."""
    if served := server_left_running():
        yield served
    else:
        say(f"starting Triton for {repository}, with places for {max(LEVELS)} sessions")
        larger = with_places(repository, max(LEVELS), FOLDER / "repository")
        with LocalServer(larger, log_dir=FOLDER / "server") as server:
            yield server.grpc_url, larger


def with_places(repository: Path, places: int, out: Path) -> Path:
    """A copy, by links, whose models hold so many sessions each; returns `out`."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(repository, out, copy_function=_link)
    for config in out.rglob("*.pbtxt"):
        if PLACES.search(text := config.read_text()):
            config.unlink()  # a link
            config.write_text(with_parameter(text, "max_sessions", str(places)))
    return out


def _link(source: str, target: str) -> None:
    link_or_copy(Path(source), Path(target))


def possible(repository: Path) -> list[int]:
    """The levels that what is served has places for, whichever configuration it was started with;
    says so if some are left out."""
    texts = [config.read_text() for config in (repository / MODEL).rglob("*.pbtxt")]
    places = min(int(found) for text in texts for found in PLACES.findall(text))
    if max(LEVELS) > places:
        say(f"{repository} has {places} places: more sessions at a time are not measured")
    return [level for level in LEVELS if level <= places]


def measure(url: str, repository: Path, load: Load, levels: Sequence[int]) -> dict[str, Any]:
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


@failing_in_words(RuntimeError, AvatarError)
def main(
    repository: Path = REPO / "build" / "model_repository",
    image: Path = REPO / "examples" / "portrait.png",
    audio: Path = REPO / "examples" / "speech.flac",
    seconds: Annotated[float, typer.Option(help="audio of a session, at most")] = 9.6,
    request_s: Annotated[float, typer.Option(help="audio of a request")] = 2.4,
    sequences: Annotated[int, typer.Option(min=max(LEVELS), help="sessions of each run")] = 8,
    limit_s: Annotated[float, typer.Option(help="time for everything")] = 600.0,
    write_docs: Annotated[bool, typer.Option("--write-docs", help="write the page")] = False,
) -> None:
    """Measure sessions at a time with perf_analyzer and with our client, side by side."""
    perf_analyzer.install()
    load = Load(
        image=image,
        audio=np.concatenate(list(read_audio(audio)))[: int(seconds * SAMPLE_RATE)],
        samples_per_request=int(request_s * SAMPLE_RATE),
        num_sequences=sequences,
        limit_s=limit_s,
        folder=FOLDER,
    )
    with serving(repository) as (url, served):
        report = measure(url, served, load, possible(served))
    print(load_report.comparison(report))
    if write_docs:
        load_report.PAGE.write_text(load_report.page(report))
        say(f"wrote {load_report.PAGE}")
    del report["perf_analyzer_said"]
    print(json.dumps(report))


if __name__ == "__main__":
    typer.run(main)
