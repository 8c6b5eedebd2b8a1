"""From glass to glass: how long after its moment does a browser show a frame?

The demo preset behind the real server, the gateway before it, and headless Chromium with the
gateway's page, all on this machine. The face is idle. Frames leave the gateway with a mark that
says when they are due. The page reads it from the pixels of every picture that it shows.

    python -m export.repository.assemble --artifacts artifacts/demo --live
    python -m benchmarks.bench_glass
    python -m benchmarks.bench_glass --seconds 5 --ways mp4

The last line is one JSON object.
"""

import json
import multiprocessing
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import typer

from benchmarks.glass_marks import COLUMNS, ROWS, WATCH, MarkedSession, delay_ms
from benchmarks.report import machine, percentiles, table
from deploy.server.local import LocalServer
from export.commands import failing_in_words
from live_avatar_client import AvatarError
from live_avatar_client.gateway.serve import serve
from live_avatar_client.gateway.settings import Settings
from live_avatar_client.protocol import FPS

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WAYS = ("webrtc", "mp4")
START_S = 20.0


class Look(TypedDict):
    """One picture that the page got to show. `mark` is None where the cells are neither black nor
    white. Moments are milliseconds of the Unix time: `composed_ms` when the page handed the picture
    to the compositor, `shown_ms` when the browser expects it on the glass. `media_ms`: its own time
    stamp. `presented`: how many pictures were shown so far, also those that were not looked at."""

    mark: int | None
    composed_ms: float
    shown_ms: float
    media_ms: float
    presented: int


def _serve(url: str, portraits: Path, told: Connection) -> None:
    settings = Settings(url=url, port=0, portraits=portraits)
    serve(settings, None, lambda address, _: told.send(address), MarkedSession)


@contextmanager
def marking_gateway(url: str, portraits: Path) -> Iterator[str]:
    """The address of a gateway, in a process of its own, whose pictures are marked."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(url, portraits, there))
    process.start()
    there.close()
    try:
        if not here.poll(START_S):
            raise RuntimeError(f"the gateway did not listen within {START_S:g} s")
        yield here.recv()
    except EOFError:
        raise RuntimeError("the gateway has failed, see above") from None
    finally:
        process.terminate()
        process.join()


@contextmanager
def chromium() -> Iterator["Browser"]:
    """Headless, from the system's packages; RuntimeError where there is none."""
    program = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        program = None
    if program is None:
        raise RuntimeError("there is no browser to look with: make setup-browser installs one")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def look(browser: "Browser", address: str, way: str, settle_s: float, seconds: float) -> list[Look]:
    """What a page shows in `seconds`, after it has run for `settle_s`."""
    page = browser.new_page()
    try:
        page.goto(f"{address}?transport={way}")
        page.click("#start")
        page.wait_for_selector("body.shown", timeout=1e3 * START_S)
        page.wait_for_timeout(1e3 * settle_s)
        seen: list[Look] = page.evaluate(WATCH, [1e3 * seconds, COLUMNS, ROWS])
        names = {"webrtc": "WebRTC", "mp4": "MP4 over WebSocket"}
        if (taken := page.inner_text("#transport")) != names[way]:
            raise RuntimeError(f"the page was to take {names[way]} and took {taken}")
        return seen
    finally:
        page.close()


def figures(seen: Sequence[Look]) -> dict[str, Any]:
    """Delays in milliseconds, and how many of the frames that were due were seen."""
    read = [(each["mark"], each) for each in seen if each["mark"] is not None]
    if not read:
        raise RuntimeError(f"no mark could be read in {len(seen)} pictures of the page")
    moments = {mark for mark, _ in read}
    first, last = read[0][1], read[-1][1]
    due = round(delay_ms(read[0][0], read[-1][0]) * FPS / 1e3) + 1
    return {
        "shown_ms": percentiles([delay_ms(mark, each["shown_ms"]) for mark, each in read]),
        "composed_ms": percentiles([delay_ms(mark, each["composed_ms"]) for mark, each in read]),
        "due": due,
        "presented": last["presented"] - first["presented"] + 1,
        "seen": len(moments),
        "unread": len(seen) - len(read),
    }


@failing_in_words(RuntimeError, AvatarError, ValueError)
def main(
    repository: Path = Path("build/model_repository"),
    portraits: Path = Path("examples"),
    seconds: Annotated[float, typer.Option(min=1, help="that are looked at, for each way")] = 30.0,
    settle: Annotated[float, typer.Option(min=0, help="seconds before")] = 10.0,
    ways: Annotated[str, typer.Option(help="with commas between")] = ",".join(WAYS),
) -> None:
    """How long after its moment does a browser show a frame?

    shown: from the moment at which a frame is due (LiveFrame.time_s) until the browser expects it
    on the glass (expectedDisplayTime). composed: until it is handed to the compositor
    (presentationTime). Inside are the gateway's encoder, the way through this machine, the
    browser's buffers and decoder. Not inside: the server's work, a network, a screen. Sound is not
    measured.

    due: frames between the first and the last that was seen. presented: of these, by the browser's
    own count. seen: by their marks. unread: pictures with a mark that can't be read.
    """
    chosen = ways.split(",")
    if odd := set(chosen) - set(WAYS):
        raise ValueError(f"--ways has {sorted(odd)[0]!r}, expected {' and '.join(WAYS)}")
    found: dict[str, dict[str, Any]] = {}
    with (
        LocalServer(repository, log_dir=Path("build/bench_glass_log")) as server,
        marking_gateway(server.grpc_url, portraits) as address,
        chromium() as browser,
    ):
        for way in chosen:
            found[way] = figures(look(browser, address, way, settle, seconds))
    report = {"benchmark": "glass", **machine(), "seconds": seconds}
    parts = [(name, part) for name in ("shown_ms", "composed_ms") for part in ("p50", "p95", "p99")]
    rows = [[f"{name} {part}", *(f[name][part] for f in found.values())] for name, part in parts]
    counted = ("due", "presented", "seen", "unread")
    rows += [[name, *(f[name] for f in found.values())] for name in counted]
    print(table(["figure", *found], rows))
    print(json.dumps(report | found))


if __name__ == "__main__":
    typer.run(main)
