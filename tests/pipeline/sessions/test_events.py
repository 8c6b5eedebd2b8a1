"""Whose event comes next."""

import threading
import time
from collections.abc import Callable
from functools import partial

from pipeline.sessions.events import Events


def named(name: str, seen: list[str]) -> Callable[[], None]:
    return partial(seen.append, name)


def drain(events: Events) -> None:
    while event := events.get(0.0):
        event()


def test_clients_take_turns_and_each_stays_in_order() -> None:
    """One that asks ten thousand things would be answered all of them before the others."""
    events, seen = Events(), list[str]()
    for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1"):
        events.put(named(name, seen), ord(name[0]))
    drain(events)
    assert seen == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


def test_models_go_first() -> None:
    """A block that is done would wait for all that was asked before."""
    events, seen = Events(), list[str]()
    events.put(named("a", seen), 1)
    events.put(named("x", seen))
    events.put(named("y", seen))
    drain(events)
    assert seen == ["x", "y", "a"]


def test_nothing_is_lost_between_threads() -> None:
    """Each event is answered to somebody who waits for it."""
    events, seen = Events(), list[str]()

    def put(session: int | None) -> None:
        for number in range(500):
            events.put(named(f"{session} {number}", seen), session)

    threads = [threading.Thread(target=put, args=(who,)) for who in (None, 1, 2)]
    for thread in threads:
        thread.start()
    give_up_s = time.monotonic() + 10
    while len(seen) < 1500 and time.monotonic() < give_up_s:
        if event := events.get(0.1):
            event()
    for who in (None, 1, 2):
        mine = [name for name in seen if name.startswith(f"{who} ")]
        assert mine == [f"{who} {number}" for number in range(500)]
    assert len(events) == 0


def test_whoever_waits_for_an_event_is_not_kept() -> None:
    """Clients that left would never be noticed."""
    assert Events().get(0.01) is None
