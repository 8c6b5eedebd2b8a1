"""What models log, and that nobody can flood it."""

import importlib
import logging
from types import ModuleType


def test_a_flood_of_one_kind_of_lines_is_cut_and_counted(serving: ModuleType) -> None:
    """A client could fill the disk."""
    log, now, lines = importlib.import_module("pipeline.triton.log"), [0.0], []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Kept()
    handler.addFilter(log.RateLimit(lambda: now[0]))
    logger = logging.Logger("a model")
    logger.addHandler(handler)
    for session in range(100):
        logger.warning("session %d fails", session)
    logger.warning("session %d ends", 1)
    assert lines[:-1] == [f"session {session} fails" for session in range(log.MOST_LINES)]
    assert lines[-1] == "session 1 ends"
    now[0] = log.PER_S
    lines.clear()
    for session in range(2):
        logger.warning("session %d fails", session)
    left_out = 100 - log.MOST_LINES
    assert lines == [
        f"session 0 fails ({left_out} lines like this were left out)",
        "session 1 fails",
    ]
