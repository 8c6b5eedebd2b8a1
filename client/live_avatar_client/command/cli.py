"""`live-avatar`: speech and a portrait, or a prompt in, a video out."""

import json
import math
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from live_avatar_client.command import arguments
from live_avatar_client.command.arguments import checked_text, checked_url
from live_avatar_client.command.cast import Cast, as_int16
from live_avatar_client.command.ending import held, kept, reporting, run
from live_avatar_client.command.figures import Figures
from live_avatar_client.command.followed import Followed
from live_avatar_client.command.gateway import gateway, token
from live_avatar_client.command.talk import show, speech_of
from live_avatar_client.command.verify import verify
from live_avatar_client.files import check_apart, shown
from live_avatar_client.live.threaded import ThreadedLiveSession
from live_avatar_client.protocol import DEFAULT_URL, FPS, MODEL, SAMPLE_RATE, AvatarError, Block
from live_avatar_client.provenance.manifest import sealer
from live_avatar_client.requests import PICTURES
from live_avatar_client.rolling import ROLLING_FPS, ROLLING_MODEL, VideoStream
from live_avatar_client.session import Session
from live_avatar_client.sound.audio import paced
from live_avatar_client.stream import check_health
from live_avatar_client.tls import Tls
from live_avatar_client.video.writer import VideoWriter

_stderr = Console(stderr=True)

app = typer.Typer(
    help="Stream audio or a prompt to a server of live_avatar and rolling_forcing, get video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Out = Annotated[Path, typer.Option(help="Video file to write, for example talk.mp4.")]
Prompt = typer.Option(help="What the video shows, in words.")
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same video.")]
Url = Annotated[str, typer.Option(help="host:port of the server, grpcs://host:port for TLS.")]
TlsCa = Annotated[
    Path | None,
    typer.Option(
        envvar=arguments.CA_VARIABLE, help="PEM file: who signs the server's certificate."
    ),
]
TlsCert = Annotated[
    Path | None,
    typer.Option(envvar=arguments.CERT_VARIABLE, help="PEM file to show a server that asks."),
]
TlsKey = Annotated[
    Path | None, typer.Option(envvar=arguments.KEY_VARIABLE, help="PEM file of its key.")
]
Model = Annotated[str, typer.Option(help="Name of the model on the server.")]
Scale = Annotated[int, typer.Option(min=0, help="Enlarge by this factor; 0 brings 256 pixels.")]
Sign = Annotated[
    bool | None,
    typer.Option(
        "--sign/--no-sign",
        help="Put a signed manifest into the file: a model made this. Default: where it can be.",
        show_default=False,
    ),
]
Resume = Annotated[bool, typer.Option(help="Go on at another try when the server is lost or full.")]
Json = Annotated[bool, typer.Option("--json", help="End stdout with one line of JSON.")]

_STREAM_EXAMPLES = """
Examples

  live-avatar stream --image examples/portrait.png --audio examples/speech.flac --out talk.mp4

  Feed the audio at the speed of speech, as a microphone would, and see whether frames come late:

  live-avatar stream --image me.jpg --audio call.wav --out call.mp4 --realtime

  Repeat a run exactly, and keep its figures:

  live-avatar stream --image me.jpg --audio a.mp3 --out a.mp4 --seed 7 --json | tail -n 1 > a.json

  Two people in one picture, each with a voice and a mask that is light where he or she is:

  live-avatar stream --image two.png --actor a.wav:left.png --actor b.wav:right.png --out two.mp4
"""


@app.command(epilog=_STREAM_EXAMPLES)
def stream(
    image: Annotated[Path, typer.Option(readable=False, help=f"The face to animate: {PICTURES}.")],
    out: Out,
    audio: Annotated[
        Path | None,
        typer.Option(readable=False, help="Speech: wav, flac, mp3, m4a, mp4, … of any rate."),
    ] = None,
    actor: Annotated[
        list[str] | None,
        typer.Option(
            help="AUDIO:MASK of one of several in the picture; once for each. Who ends is silent."
        ),
    ] = None,
    pose: Annotated[
        Path | None, typer.Option(readable=False, help="Video to follow, 25 frames per second.")
    ] = None,
    prompt: Annotated[str | None, Prompt] = None,
    seed: Seed = None,
    options: Annotated[str | None, typer.Option(help="Server options, a JSON object.")] = None,
    url: Url = DEFAULT_URL,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    model: Model = MODEL,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Send audio as fast as it is spoken.")
    ] = False,
    resume: Resume = True,
    scale: Scale = 0,
    sign: Sign = None,
    as_json: Json = False,
) -> None:
    """Send a portrait and speech, write the talking video while it is made."""
    figures = Figures(started_s=time.perf_counter())
    checked_text("--model", model)
    cast = Cast.of(audio, actor or [])
    for what, source in (*cast.sources, ("image", image), *([("pose", pose)] if pose else [])):
        check_apart(out, what, source)
    followed = None if pose is None else Followed(pose)
    session = Session(
        image=image,
        actors=cast.masks,
        prompt=prompt,
        seed=seed,
        options=arguments.parsed_options(options),
        url=checked_url(url),
        tls=Tls.of_files(tls_ca, tls_key, tls_cert),
        model=model,
        idle=False,  # sound that comes late from a file is no pause
        resume=resume,
    )
    duration_s = cast.seconds()
    total = None if duration_s is None else round(duration_s * FPS)
    chunks = cast.chunks(1000 / FPS if realtime else 100)
    chunks = paced(chunks) if realtime else chunks
    sealed = sealer(out, asked=sign)
    writer = VideoWriter(out, **cast.sound_track, scale=scale or None, seal=sealed)
    with kept(writer, out), session:
        _write(session.stream(chunks, pose=followed), writer, figures, total)
    if not figures.num_frames:
        raise AvatarError(f"the server at {url} sent no frames")
    if followed is not None:
        followed.compare(figures.num_frames)
    _report({"out": str(out), **figures.summary()}, as_json)


_TALK_EXAMPLES = """
Examples

  espeak-ng --stdout "Good morning." | live-avatar talk --image me.jpg --out morning.mp4

  Bare 16-bit samples, as many synthesisers write them:

  my-tts "Good morning." | live-avatar talk --image me.jpg --rate 24000 --out morning.mp4
"""


@app.command(epilog=_TALK_EXAMPLES)
def talk(
    image: Annotated[Path, typer.Option(readable=False, help=f"The face to animate: {PICTURES}.")],
    out: Out,
    rate: Annotated[int, typer.Option(help="Samples per second, where no WAV says it.")] = 16_000,
    channels: Annotated[int, typer.Option(help="1, or 2 interleaved; where no WAV says it.")] = 1,
    prompt: Annotated[str | None, Prompt] = None,
    seed: Seed = None,
    options: Annotated[str | None, typer.Option(help="Server options, a JSON object.")] = None,
    url: Url = DEFAULT_URL,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    model: Model = MODEL,
    resume: Resume = True,
    scale: Scale = 0,
    sign: Sign = None,
    as_json: Json = False,
) -> None:
    """Give speech that a program pipes in a face, live, and write the video of it."""
    checked_text("--model", model)
    check_apart(out, "image", image)
    face = ThreadedLiveSession(
        image=image,
        prompt=prompt,
        seed=seed,
        options=arguments.parsed_options(options),
        url=checked_url(url),
        tls=Tls.of_files(tls_ca, tls_key, tls_cert),
        model=model,
        reconnect=resume,
    )
    writer = VideoWriter(
        out, sound_rate=SAMPLE_RATE, scale=scale or None, seal=sealer(out, asked=sign)
    )
    seen = show(face, speech_of(sys.stdin, rate, channels), writer, out)
    rows = {"frames": seen.frames, "late": seen.late, "held": seen.held, "skipped": seen.skipped}
    first_ms = None if seen.first_frame_s is None else round(1000 * seen.first_frame_s, 1)
    onset_ms = round(1000 * seen.onset_s.p50, 1) if seen.onset_s.count else None
    _report({"out": str(out), "ttff_ms": first_ms, "onset_ms": onset_ms, **rows}, as_json)


_GENERATE_EXAMPLES = """
Examples

  live-avatar generate --prompt "a lighthouse in the fog" --seconds 20 --out fog.mp4

  Change the prompt on the way:

  live-avatar generate --prompt "dawn at sea" --then "8:noon at sea" --seconds 16 --out sea.mp4
"""


@app.command(epilog=_GENERATE_EXAMPLES)
def generate(
    prompt: Annotated[str, Prompt],
    seconds: Annotated[float, typer.Option(help="Length of the video.")],
    out: Out,
    then: Annotated[
        list[str] | None,
        typer.Option(help="SECONDS:PROMPT, from when on another prompt holds; may be repeated."),
    ] = None,
    seed: Seed = None,
    rules: Annotated[str | None, typer.Option(help="Schedule and cache, as served.")] = None,
    url: Url = DEFAULT_URL,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    model: Model = ROLLING_MODEL,
    scale: Scale = 0,
    sign: Sign = None,
    as_json: Json = False,
) -> None:
    """Send a prompt, write the video while it is made."""
    figures = Figures(started_s=time.perf_counter(), rate=ROLLING_FPS)
    checked_text("--rules", rules)
    checked_text("--model", model)
    changes = arguments.prompt_changes(then or [], arguments.checked_seconds(seconds))
    options: dict[str, Any] = {"seconds": seconds} | ({} if rules is None else {"rules": rules})
    stream = VideoStream(
        prompt=prompt,
        seed=seed,
        options=options,
        url=checked_url(url),
        tls=Tls.of_files(tls_ca, tls_key, tls_cert),
        model=model,
    )
    writer = VideoWriter(out, fps=ROLLING_FPS, scale=scale or None, seal=sealer(out, asked=sign))
    with kept(writer, out), stream:
        total = math.ceil(seconds * ROLLING_FPS - 1e-9)
        _write(_generated(stream, changes), writer, figures, total)
    _report({"out": str(out), **figures.summary()}, as_json)


def _write(
    blocks: Iterable[Block], writer: VideoWriter, figures: Figures, total: int | None
) -> None:
    """Write every block, with a bar of `total` frames where stderr is a terminal."""
    count, words = TextColumn("{task.completed:.0f} frames"), TextColumn("{task.description}")
    columns = (SpinnerColumn(), BarColumn(bar_width=12), count, TimeElapsedColumn(), words)
    with Progress(*columns, console=_stderr, disable=not _stderr.is_terminal) as bar:
        task = bar.add_task("connected", total=total)
        for block in blocks:
            with held():
                writer.write(block.frames, None if block.audio is None else as_int16(block.audio))
            figures.add(block)
            bar.update(task, completed=figures.num_frames, description=figures.in_words())


def _generated(stream: VideoStream, changes: list[tuple[int, str]]) -> Iterator[Block]:
    """The whole video, each (first block, prompt) of `changes` in its place."""
    done, prompt = 0, None
    for first, next_prompt in changes:
        yield from stream.blocks(first - done, prompt=prompt)
        done, prompt = first, next_prompt
    yield from stream.finish(prompt=prompt)


@app.command()
def health(
    url: Url = DEFAULT_URL,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    model: Model = MODEL,
    as_json: Json = False,
) -> None:
    """Say whether the server answers and the model is ready; exit code 1 if not."""
    checked_text("--model", model)
    answer = check_health(checked_url(url), model, tls=Tls.of_files(tls_ca, tls_key, tls_cert))
    rows = {"url": url, "triton": answer.version, "server_ready": answer.ready}
    _report({**rows, "model": model, "model_ready": answer.model_ready}, as_json)
    if not (answer.ready and answer.model_ready):
        raise AvatarError(answer.words or f"the server at {url} is not ready")


app.command()(verify)
app.command()(gateway)
app.command()(token)


def main() -> None:
    """Run the command line; whatever goes wrong is one line on stderr and an exit code."""
    sys.exit(run(app, _stderr))


def _report(rows: dict[str, Any], as_json: bool) -> None:
    table = Table(show_header=False)
    for name, value in rows.items():
        table.add_row(name, "-" if value is None else escape(shown(value)))
    with reporting():
        Console().print(table)
        if as_json:
            typer.echo(json.dumps(rows))
