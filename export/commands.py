"""How the commands that work on checkpoints show progress and failures."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Params = ParamSpec("Params")


def failing_in_words(command: Callable[Params, None]) -> Callable[Params, None]:
    """Bad files and a full disk end a command with a sentence and exit status 1."""

    @functools.wraps(command)
    def wrapped(*args: Params.args, **kwargs: Params.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (ValueError, OSError) as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from None

    return wrapped


@contextmanager
def tensor_progress(what: str, total: int) -> Iterator[Callable[[str], None]]:
    """A bar on stderr; call the yielded function with each tensor's key when it is done."""
    columns = (TextColumn("{task.description:<48}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total)
        yield lambda key: progress.update(task, advance=1, description=f"{what} {key}"[:48])
