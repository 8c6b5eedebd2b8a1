"""The loop of every training: its clock, its log and curve, when it scores and saves."""

import argparse
import json
import math
import sys
import time
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from PIL import Image, ImageDraw
from rich.progress import Progress
from torch import Tensor

from train.learning.learner import Figures, Learner
from train.learning.options import saved_state

Learn = Callable[[float], Tensor | Figures]
PANEL = (360, 200)
MARGIN = 34
TIME = "cpu_seconds"
COLOURS = ("#1b6ca8", "#d1495b", "#3a7d44", "#b07d12")
SMOOTHED = 100  # steps that a row of the log is the mean of at most


def save_state(learner: Learner, out: Path) -> None:
    """OUT/state.pt, in one move."""
    torch.save(learner.state(), out / "state.partial")
    (out / "state.partial").replace(out / "state.pt")


def load_state(learner: Learner, out: Path, device: torch.device | str = "cpu") -> None:
    """Go on from OUT/state.pt; ValueError if there is none."""
    learner.load(torch.load(saved_state(out), weights_only=False, map_location=device))


def follow(learner: Learner, learn: Callable[[float], object]) -> None:
    """The loop of every learner but the first."""
    while (progress := learner.agree(0.0)) < 1:
        learn(progress)


class Run(ABC):
    """A learner's run in its folder, as the first of its `processes`."""

    panels: ClassVar[Mapping[str, tuple[str, ...]]]  # of curve.png: titles and figures below each
    shown: ClassVar[tuple[str, ...]] = ()  # figures that a line of the terminal gives, too

    def __init__(
        self, learner: Learner, learn: Learn, args: argparse.Namespace, processes: int = 1
    ) -> None:
        """`learn`: a step at a progress 0..1 of the schedule, which returns its loss or its named
        losses. `args`: the options out, every, minutes and steps; see `train.learning.options`."""
        self.learner, self.learn, self.args, self.processes = learner, learn, args, processes
        self.out = args.out
        self.recent: dict[str, deque[Tensor | float]] = defaultdict(lambda: deque(maxlen=SMOOTHED))
        self.begun = time.monotonic() - 60 * learner.minutes
        self.processor = time.process_time() - learner.cpu_seconds / processes
        self.noted = self.spent()

    @abstractmethod
    def score(self) -> Figures:
        """What a row of the log says beside the losses."""

    @abstractmethod
    def write(self) -> None:
        """The weights, and whatever else lies beside the state."""

    def spent(self) -> float:
        """Minutes of the schedule."""
        return self.learner.minutes

    def progress(self) -> float:
        """How far the schedule is; 1 and more: done."""
        steps, minutes = self.args.steps, self.args.minutes
        return self.learner.step / steps if steps else self.spent() / minutes

    def go(self, name: str = "learning") -> None:
        """Learn to the end of the schedule, with a row and a save every few minutes."""
        self.out.mkdir(parents=True, exist_ok=True)
        with Progress(disable=not sys.stderr.isatty()) as bar:
            task = bar.add_task(name, total=1.0)
            while True:
                self.learner.minutes = (time.monotonic() - self.begun) / 60
                self.learner.cpu_seconds = self.processes * (time.process_time() - self.processor)
                progress = self.progress()
                bar.update(task, completed=min(1.0, progress))
                if progress >= 1 or self.spent() - self.noted >= self.args.every:
                    self.note(progress)
                if self.learner.agree(progress) >= 1:
                    return
                found = self.learn(progress)
                losses = found if isinstance(found, dict) else {"loss": found}
                for figure, value in losses.items():
                    self.recent[figure].append(value)

    def note(self, progress: float) -> None:
        learner, self.noted = self.learner, self.spent()
        row = {n: getattr(learner, n) for n in (*learner.PLACE, "minutes", "cpu_seconds")}
        losses = {n: sum(map(float, values)) / len(values) for n, values in self.recent.items()}
        self.recent.clear()
        row |= losses or {"loss": math.nan}
        row |= self.score()
        learner.rows.append(row)
        names = (*learner.PLACE, "cpu_seconds", *losses, *self.shown)
        figures = " ".join(f"{name} {row[name]:.4g}" for name in names if name in row)
        print(f"{progress:4.0%} {figures}", flush=True)
        self.save()

    def save(self) -> None:
        rows = self.learner.rows
        self.write()
        write_curves(self.out / "curve.png", rows, self.panels)
        (self.out / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        save_state(self.learner, self.out)


def write_curves(
    path: Path, rows: Sequence[Mapping[str, float]], panels: Mapping[str, Sequence[str]]
) -> None:
    """One panel per title with the named figures of `rows` over their time; rows may lack some."""
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    image = Image.new("RGB", (PANEL[0] * columns, PANEL[1] * lines), "white")
    pen = ImageDraw.Draw(image)
    for number, (title, names) in enumerate(panels.items()):
        corner = (PANEL[0] * (number % columns), PANEL[1] * (number // columns))
        _panel(pen, corner, title, {n: [(r[TIME], r[n]) for r in rows if n in r] for n in names})
    image.save(path)


def _panel(
    pen: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    title: str,
    curves: Mapping[str, Sequence[tuple[float, float]]],
) -> None:
    left, top = corner[0] + MARGIN, corner[1] + MARGIN
    right, bottom = corner[0] + PANEL[0] - 10, corner[1] + PANEL[1] - 20
    points = [p for curve in curves.values() for p in curve if p[1] == p[1]]
    pen.text((left, corner[1] + 4), title, "black")
    pen.rectangle((left, top, right, bottom), outline="#bbbbbb")
    if not points:
        return
    low, high = min(y for _, y in points), max(y for _, y in points)
    last, span = max(x for x, _ in points) or 1, (high - low) or 1
    pen.text((corner[0] + 2, top - 6), f"{high:.3g}", "black")
    pen.text((corner[0] + 2, bottom - 6), f"{low:.3g}", "black")
    pen.text((right - 40, bottom + 4), f"{last:.0f}", "black")
    for index, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        places = [
            (left + (right - left) * x / last, bottom - (bottom - top) * (y - low) / span)
            for x, y in curve
            if y == y
        ]
        pen.line(places, fill=colour, width=2)
        pen.text((left + 90 * index, corner[1] + 18), name, colour)
