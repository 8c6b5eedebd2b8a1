"""What TensorRT's builder calls while it works: a log that is kept, and progress."""

import sys
from collections.abc import Callable
from typing import Any

Progress = Callable[[str, int, int], None]
"""Called with the name of a phase, its steps done and its steps in all."""


def shown_progress() -> Progress:
    """One line that changes, on a terminal; nothing elsewhere."""

    def show(phase: str, step: int, steps: int) -> None:
        print(f"\r  {phase[:60]}: {step}/{steps}\x1b[K", end="", file=sys.stderr, flush=True)

    return show if sys.stderr.isatty() else lambda *_: None


def kept_log(trt: Any) -> Any:
    """A logger that keeps the words of errors and of warnings."""

    class Log(trt.ILogger):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity.name in ("ERROR", "INTERNAL_ERROR"):
                self.errors.append(message)
            elif severity.name == "WARNING":
                self.warnings.append(message)

    return Log()


def progress_monitor(trt: Any, on_progress: Progress) -> Any:
    """A monitor that tells `on_progress` of every step of every phase."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase: str, _parent: str | None, num_steps: int) -> None:
            self.steps[phase] = num_steps

        def step_complete(self, phase: str, step: int) -> bool:
            on_progress(phase, step + 1, self.steps[phase])
            return True  # go on

        def phase_finish(self, phase: str) -> None:
            self.steps.pop(phase, None)

    return Monitor()
