"""How a command ends: whatever happens is one line on stderr and an exit code.

1 is an error, 2 a wrong option, 128 + n a signal (130 for Ctrl-C, 143 for SIGTERM).
"""

import contextlib
import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from live_avatar_client.files import shown, words
from live_avatar_client.protocol import AvatarError
from live_avatar_client.video.writer import VideoWriter

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LONGEST_LINE = 2000
_INTERRUPTED = 128 + signal.SIGINT


class Stopped(BaseException):
    """The user, or the system, wants this process to end; no `Exception`, so nobody keeps it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


def run(command: Callable[[], object], console: Console) -> int:
    """The exit code of the command, after its last line; warnings go to the console as lines."""
    warnings, logger = _Lines(console), logging.getLogger("live_avatar_client")
    logger.addHandler(warnings)
    try:
        with _stoppable():
            command()
            _flush()
        return 0
    except SystemExit as end:
        if end.code == _INTERRUPTED:  # typer's answer to a KeyboardInterrupt
            _say("stopped", end)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Stopped as stop:
        _say("stopped", stop)
        return stop.exit_code
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _say(f"error: {place}{words(error)}", error)
    except (AvatarError, ValueError) as error:
        _say(f"error: {error}", error)
    except MemoryError as error:
        _say("error: out of memory", error)
    except Exception as error:
        _say(f"error: {type(error).__name__}: {error}", error)
    finally:
        logger.removeHandler(warnings)
    return 1


@contextlib.contextmanager
def kept(writer: VideoWriter, out: Path) -> Iterator[None]:
    """Open the writer, close it at the end; an exception that ends the video early gets a note of
    how much there is."""
    try:
        try:
            with held():
                writer.open()
            yield
        finally:
            with held():
                writer.close()
    except BaseException as error:
        with held():
            writer.close()  # a second time, for a signal that came just before the first one
        ending = Stopped(signal.SIGINT) if isinstance(error, KeyboardInterrupt) else error
        first = error.__context__  # what the server did before the writer failed on the way out
        while first is not None and not isinstance(first, AvatarError):
            first = first.__context__
        if first is not None:
            ending.add_note(str(first))
        if writer.kept:
            ending.add_note(f"kept the first {writer.seconds:.1f} s in {shown(out)}")
        raise ending from None


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Let a signal that comes meanwhile count when this is over: no frame is left half written."""
    _signals.num_holds += 1
    try:
        yield
    finally:
        _signals.num_holds -= 1
        _signals.stop_if_due()


@contextlib.contextmanager
def reporting() -> Iterator[None]:
    """Around what prints to stdout; ValueError when nobody takes it."""
    try:
        yield
        _flush()
    except (OSError, SystemExit) as error:  # rich turns a broken pipe into the latter
        # What is left in the buffer would be tried again, and fail again, when Python ends.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        reason = words(error) if isinstance(error, OSError) else os.strerror(errno.EPIPE)
        raise ValueError(f"stdout can't be written: {reason}") from None


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _say(line: str, error: BaseException) -> None:
    """One line, the notes of `kept` included."""
    text = "; ".join([line, *getattr(error, "__notes__", [])])
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"{shown(text, longest=_LONGEST_LINE)}\n")


class _Signals:
    """The first signal raises Stopped, later ones leave the cleaning up alone."""

    num_holds = 0
    stopped = False
    _due: int | None = None

    def come(self, number: int, _: FrameType | None) -> None:
        if self._due is None and not self.stopped:
            self._due = number
            self.stop_if_due()

    def stop_if_due(self) -> None:
        if self._due is not None and not self.num_holds:
            number, self._due = self._due, None
            self.stopped = True
            raise Stopped(number)


_signals = _Signals()


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Signals raise Stopped; those that were ignored before (by nohup) stay so. Outside the main
    thread nothing changes."""
    before: dict[signal.Signals, Any] = {}
    _signals.stopped = False
    try:
        with contextlib.suppress(ValueError):
            for number in _SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:
                    before[number] = signal.signal(number, _signals.come)
        yield
    finally:
        for number, handler in before.items():
            # The process is about to end: a second Ctrl-C must not disturb that.
            signal.signal(number, signal.SIG_IGN if _signals.stopped else handler)


class _Lines(logging.Handler):
    """Warnings above the progress bar, one line each."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, ValueError):
            line = f"warning: {shown(record.getMessage(), longest=_LONGEST_LINE)}"
            self._console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)
