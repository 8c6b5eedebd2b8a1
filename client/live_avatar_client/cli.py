"""`live-avatar`: speech and a portrait, or a prompt in, a video out."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from live_avatar_client.audio import audio_seconds, paced, read_audio
from live_avatar_client.figures import Figures
from live_avatar_client.protocol import DEFAULT_URL, FPS, MODEL, AvatarError, Block
from live_avatar_client.rolling import ROLLING_FPS, ROLLING_MODEL, VideoStream, blocks_before
from live_avatar_client.session import Session
from live_avatar_client.stream import check_health
from live_avatar_client.video import VideoWriter

app = typer.Typer(
    help="Stream audio or a prompt to a server of live_avatar and rolling_forcing, get video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
_progress = Console(stderr=True)

Url = Annotated[str, typer.Option(help="host:port of the server's gRPC endpoint.")]
Model = Annotated[str, typer.Option(help="Name of the model on the server.")]
Json = Annotated[bool, typer.Option("--json", help="End stdout with one line of JSON.")]

_STREAM_EXAMPLES = """
Examples

  live-avatar stream --image examples/portrait.png --audio examples/speech.flac --out talk.mp4

  Feed the audio at the speed of speech, as a microphone would, and see whether frames come late:

  live-avatar stream --image me.jpg --audio call.wav --out call.mp4 --realtime

  Repeat a run exactly, and keep its figures:

  live-avatar stream --image me.jpg --audio a.mp3 --out a.mp4 --seed 7 --json | tail -n 1 > a.json
"""


@app.command(epilog=_STREAM_EXAMPLES)
def stream(
    image: Annotated[Path, typer.Option(help="PNG or JPEG with the face to animate.")],
    audio: Annotated[Path, typer.Option(help="Speech: wav, flac, mp3, m4a, … of any rate.")],
    out: Annotated[Path, typer.Option(help="Video file to write, for example talk.mp4.")],
    prompt: Annotated[str | None, typer.Option(help="What the video shows, in words.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same video.")] = None,
    options: Annotated[str | None, typer.Option(help="Server options, a JSON object.")] = None,
    url: Url = DEFAULT_URL,
    model: Model = MODEL,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Send audio at the speed of sound recording.")
    ] = False,
    scale: Annotated[
        int, typer.Option(min=0, help="Enlarge by this factor; 0 brings 256 pixels.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Send a portrait and speech, write the talking video while it is made."""
    figures = Figures(started_s=time.perf_counter())
    session = Session(
        image=image, prompt=prompt, seed=seed, options=_parsed(options), url=url, model=model
    )
    duration_s = audio_seconds(audio)
    total = None if duration_s is None else round(duration_s * FPS)
    chunks = paced(read_audio(audio, chunk_ms=1000 / FPS)) if realtime else read_audio(audio)
    writer = VideoWriter(out, audio_path=audio, scale=scale or None)
    with session, writer, _bar() as bar:
        task = bar.add_task("connected", total=total)
        for block in session.stream(chunks):
            writer.write(block.frames)
            figures.add(block)
            bar.update(task, completed=figures.num_frames, description=_live(figures))
    if not figures.num_frames:
        raise AvatarError(f"the server at {url} sent no frames")
    _report({"out": str(out), **figures.summary()}, as_json)


_GENERATE_EXAMPLES = """
Examples

  live-avatar generate --prompt "a lighthouse in the fog" --seconds 20 --out fog.mp4

  Change the prompt on the way:

  live-avatar generate --prompt "dawn at sea" --then "8:noon at sea" --seconds 16 --out sea.mp4
"""


@app.command(epilog=_GENERATE_EXAMPLES)
def generate(
    prompt: Annotated[str, typer.Option(help="What the video shows, in words.")],
    seconds: Annotated[float, typer.Option(min=0.01, help="Length of the video.")],
    out: Annotated[Path, typer.Option(help="Video file to write, for example fog.mp4.")],
    then: Annotated[
        list[str] | None,
        typer.Option(help="SECONDS:PROMPT, from when on another prompt holds; may be repeated."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same video.")] = None,
    rules: Annotated[str | None, typer.Option(help="Schedule and cache, as served.")] = None,
    url: Url = DEFAULT_URL,
    model: Annotated[str, typer.Option(help="Name of the model on the server.")] = ROLLING_MODEL,
    scale: Annotated[
        int, typer.Option(min=0, help="Enlarge by this factor; 0 brings 256 pixels.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Send a prompt, write the video while it is made."""
    figures = Figures(started_s=time.perf_counter(), rate=ROLLING_FPS)
    changes = _changes(then or [], seconds)
    options: dict[str, Any] = {"seconds": seconds}
    options |= {} if rules is None else {"rules": rules}
    stream = VideoStream(prompt=prompt, seed=seed, options=options, url=url, model=model)
    writer = VideoWriter(out, fps=ROLLING_FPS, scale=scale or None)
    with stream, writer, _bar() as bar:
        task = bar.add_task("connected", total=math.ceil(seconds * ROLLING_FPS - 1e-9))
        for block in _generated(stream, changes):
            writer.write(block.frames)
            figures.add(block)
            bar.update(task, completed=figures.num_frames, description=_live(figures))
    _report({"out": str(out), **figures.summary()}, as_json)


def _generated(stream: VideoStream, changes: list[tuple[int, str]]) -> Iterator[Block]:
    """The whole video, each (first block, prompt) of `changes` in its place."""
    done, prompt = 0, None
    for first, next_prompt in changes:
        yield from stream.blocks(first - done, prompt=prompt)
        done, prompt = first, next_prompt
    yield from stream.finish(prompt=prompt)


def _changes(then: list[str], seconds: float) -> list[tuple[int, str]]:
    changes: dict[int, str] = {}
    for given in then:
        time_s, colon, prompt = given.partition(":")
        try:
            at_s = float(time_s)
        except ValueError:
            at_s = math.nan
        if not colon or not prompt or not 0 < at_s < seconds:
            raise ValueError(
                f"--then is {given!r}, expected SECONDS:PROMPT with seconds above 0 and below "
                f"{seconds:g}"
            )
        changes[blocks_before(at_s)] = prompt
    last = blocks_before(seconds)
    return [(block, prompt) for block, prompt in sorted(changes.items()) if block < last]


@app.command()
def health(url: Url = DEFAULT_URL, model: Model = MODEL, as_json: Json = False) -> None:
    """Say whether the server answers and the model is ready; exit code 1 if not."""
    answer = check_health(url, model)
    rows = {
        "url": url,
        "triton": answer.version,
        "server_ready": answer.ready,
        "model": model,
        "model_ready": answer.model_ready,
    }
    _report(rows, as_json)
    if not (answer.ready and answer.model_ready):
        raise AvatarError(f"the server at {url} is up, but model {model!r} is not ready")


def main() -> None:
    """Run the command line; what a user can mend is one line on stderr and exit code 1."""
    try:
        app()
    except (AvatarError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


def _parsed(options: str | None) -> dict[str, Any] | None:
    if options is None:
        return None
    try:
        parsed = json.loads(options)
    except json.JSONDecodeError as error:
        raise ValueError(f"--options is not JSON: {error}; wanted an object in braces") from None
    if not isinstance(parsed, dict):
        raise ValueError(f"--options is {options}, expected a JSON object in braces")
    return parsed


def _bar() -> Progress:
    return Progress(
        SpinnerColumn(),
        BarColumn(bar_width=12),
        TextColumn("{task.completed:.0f} frames"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=_progress,
    )


def _live(figures: Figures) -> str:
    """Short enough for a terminal of 80 columns, bar and time included; x1: at real time."""
    shown: list[tuple[float | None, Callable[[float], str]]] = [
        (figures.ttff_ms, lambda v: f"first frame {v:.0f} ms"),
        (figures.fps, lambda v: f"{v:.1f} fps"),
        (figures.realtime_factor, lambda v: f"x{v:.2f}"),
        (figures.late_frames or None, lambda v: f"{v:.0f} late"),
    ]
    return "  ".join(show(value) for value, show in shown if value is not None)


def _report(rows: dict[str, Any], as_json: bool) -> None:
    table = Table(show_header=False)
    for name, value in rows.items():
        table.add_row(name, "-" if value is None else str(value))
    Console().print(table)
    if as_json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
