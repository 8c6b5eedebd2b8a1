"""`live-avatar verify`: what a video says of who made it, and whether that still holds."""

from pathlib import Path
from typing import Annotated

import typer

from live_avatar_client.command.ending import reporting
from live_avatar_client.files import shown
from live_avatar_client.provenance import manifest


def verify(
    file: Annotated[Path, typer.Argument(help="A video, such as talk.mp4.", readable=False)],
) -> None:
    """Say what a video's signed manifest says; exit code 1 if there is none or it does not hold."""
    verdict = manifest.verify(file)
    if not verdict.is_whole:
        raise ValueError(f"{shown(file)}: {verdict.words}")
    with reporting():
        typer.echo(f"{shown(file)}: {verdict.words}")
