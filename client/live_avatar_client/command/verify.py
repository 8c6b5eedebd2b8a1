"""`live-avatar verify`: what a video says of who made it, and whether that still holds."""

import itertools
from pathlib import Path
from typing import Annotated

import av
import av.error
import numpy as np
import typer

from live_avatar_client.command.ending import reporting
from live_avatar_client.files import check_file, file_url, shown, words
from live_avatar_client.provenance import manifest
from live_avatar_client.provenance.mark import FOUND, Mark

MARKED_FRAMES = 50
"""So many pictures are looked at: two seconds."""


def verify(
    file: Annotated[Path, typer.Argument(help="A video, such as talk.mp4.", readable=False)],
    mark_secret: Annotated[
        Path | None, typer.Option(help="Look for the invisible mark of this file's secret instead.")
    ] = None,
) -> None:
    """Say what a video's signed manifest says; exit code 1 if there is none or it does not hold."""
    if mark_secret is not None:
        _look_for_mark(file, mark_secret)
        return
    verdict = manifest.verify(file)
    if not verdict.is_whole:
        raise ValueError(f"{shown(file)}: {verdict.words}")
    with reporting():
        typer.echo(f"{shown(file)}: {verdict.words}")


def _look_for_mark(file: Path, secret: Path) -> None:
    """ValueError if the first seconds of the video don't bear it."""
    check_file("video", file)
    check_file("--mark-secret", secret)
    try:
        with av.open(file_url(file), "r") as video:
            seen = itertools.islice(video.decode(video=0), MARKED_FRAMES)
            frames = np.stack([frame.to_ndarray(format="rgb24") for frame in seen])
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        raise ValueError(f"{shown(file)} is no video that can be read: {words(error)}") from None
    score = Mark(secret.read_bytes().strip()).score(frames)
    if score < FOUND:
        raise ValueError(f"{shown(file)}: no mark of this secret (score {score:.1f} below {FOUND})")
    with reporting():
        typer.echo(f"{shown(file)}: bears the mark of this secret (score {score:.1f})")
