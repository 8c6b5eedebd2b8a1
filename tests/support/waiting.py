"""Waiting for what takes a while on a busy machine."""

import time
from collections.abc import Callable


def happens(fact: Callable[[], bool], within_s: float) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + within_s
    while not fact() and time.monotonic() < deadline:
        time.sleep(0.05)
    return fact()
