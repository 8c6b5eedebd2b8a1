"""What a user sees on stderr while a video is made."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from live_avatar_client.command.figures import Figures

stderr = Console(stderr=True)


def progress_bar() -> Progress:
    """A bar that counts frames, on a terminal; its description is `in_words`."""
    return Progress(
        SpinnerColumn(),
        BarColumn(bar_width=12),
        TextColumn("{task.completed:.0f} frames"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=stderr,
        disable=not stderr.is_terminal,
    )


def in_words(figures: Figures) -> str:
    """Short enough for a terminal of 80 columns, bar and time included; x1: at real time."""
    shown: list[tuple[float | None, Callable[[float], str]]] = [
        (figures.ttff_ms, lambda v: f"first frame {v:.0f} ms"),
        (figures.fps, lambda v: f"{v:.1f} fps"),
        (figures.realtime_factor, lambda v: f"x{v:.2f}"),
        (figures.late_frames or None, lambda v: f"{v:.0f} late"),
    ]
    return "  ".join(show(value) for value, show in shown if value is not None)
