"""What the commands of `export` share: options, progress, and failures in one line."""

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, ParamSpec

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Params = ParamSpec("Params")
Command = Callable[Params, None]

Size = Annotated[
    str | None,
    typer.Option(help="height x width of the video in pixels, such as 832x448; else the preset's"),
]
ReleaseFolder = Annotated[Path, typer.Argument(help="the released folder, Wan2.2-S2V-14B")]
LoraFile = Annotated[Path | None, typer.Option(help="LoRA file, liveavatar.safetensors")]
Rank = Annotated[int, typer.Option(help="of the LoRA")]
Alpha = Annotated[float, typer.Option(help="of its training")]


def failing_in_words(*others: type[Exception]) -> Callable[[Command[Params]], Command[Params]]:
    """Bad values, bad files and a full disk end a command with a sentence and exit status 1, and so
    do the errors of `others`."""
    caught: tuple[type[Exception], ...] = (ValueError, OSError, *others)

    def around(command: Command[Params]) -> Command[Params]:
        @functools.wraps(command)
        def wrapped(*args: Params.args, **kwargs: Params.kwargs) -> None:
            try:
                command(*args, **kwargs)
            except caught as error:
                typer.echo(f"error: {error}", err=True)
                raise typer.Exit(1) from None

        return wrapped

    return around


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[str], None]]:
    """A bar on stderr; call the yielded function with the name of each part that is done."""
    columns = (TextColumn("{task.description:<48}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda name: bar.update(task, advance=1, description=f"{what} {name}"[:48])


def say_exported(graph: str) -> None:
    """Progress, on stderr."""
    typer.echo(f"exported {graph}", err=True)


def check_choices(option: str, given: Iterable[str], known: Iterable[str]) -> None:
    """A usage error names what there is none of."""
    for name in given:
        if name not in known:
            raise typer.BadParameter(f"no {option} {name!r}, there are {', '.join(known)}")
