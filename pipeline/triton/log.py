"""What models log goes to the server's log; nobody can flood it."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import triton_python_backend_utils as pb

MOST_LINES, PER_S = 20, 10.0
"""Lines of one kind, that is with the same words around their figures, in so many seconds."""


def write_to_triton() -> None:
    """From now on this process logs there, from the level INFO on."""
    handler = TritonLog()
    handler.addFilter(RateLimit())
    logging.basicConfig(handlers=[handler], level=logging.INFO, format="%(message)s")


class TritonLog(logging.Handler):
    """Lines go to the server's log. Triton notes the path of the file that writes, and fails where
    that is no ASCII; then the same line goes to stderr, which is the same log."""

    def emit(self, record: logging.LogRecord) -> None:
        letter = "E" if record.levelno >= logging.ERROR else "W"
        letter = "I" if record.levelno < logging.WARNING else letter
        write = {"E": pb.Logger.log_error, "W": pb.Logger.log_warn, "I": pb.Logger.log_info}[letter]
        text = self.format(record)
        try:
            write(text)
        except Exception:
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            line = text.replace("\n", "\\n").encode("ascii", "backslashreplace").decode()
            sys.stderr.write(f'{now} {letter} {os.getpid()} models.py:0] "{line}"\n')
            sys.stderr.flush()


@dataclass(slots=True)
class _Kind:
    began_s: float
    num_lines: int = 0
    num_left_out: int = 0


class RateLimit(logging.Filter):
    """Lets pass MOST_LINES of each kind in PER_S seconds. The first one after that says how many
    were left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()  # guards the next
        self._kinds: dict[tuple[str, str], _Kind] = {}  # as many as the sources have lines

    def filter(self, record: logging.LogRecord) -> bool:
        with self._lock:
            passes, left_out = self._count(record)
        if left_out:
            text = record.getMessage()
            record.msg, record.args = f"{text} ({left_out} lines like this were left out)", None
        return passes

    def _count(self, record: logging.LogRecord) -> tuple[bool, int]:
        """Whether the line may pass, and how many could not before it."""
        now_s, left_out = self._clock(), 0
        kind = self._kinds.setdefault((record.name, str(record.msg)), _Kind(now_s))
        if now_s - kind.began_s >= PER_S:
            left_out = kind.num_left_out
            kind.began_s, kind.num_lines, kind.num_left_out = now_s, 0, 0
        kind.num_lines += 1
        passes = kind.num_lines <= MOST_LINES
        kind.num_left_out += not passes
        return passes, left_out
