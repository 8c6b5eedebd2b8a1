"""Far more visitors than places: who is in does not notice, and who is not hears it at once."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.faults.scene import PLACES, scene
from tests.faults.talks import Talk
from tests.support.raw_stream import IMAGE, Stream

pytestmark = [pytest.mark.triton, pytest.mark.slow]
VISITORS, PAUSE_S = 18, 0.5


def late_s(talk: Talk) -> np.ndarray:
    """By how much each block came later than its share of the first one's delay."""
    times = np.array(talk.times)
    return times - times[0] - 0.48 * np.arange(len(times))


@pytest.mark.parametrize("seconds", [60.0])
def test_refusals_come_at_once_and_nobody_inside_notices(tmp_path: Path, seconds: float) -> None:
    """A queue at the door must not be heard in the room."""
    with scene(tmp_path) as made:
        blockers = [made.stream() for _ in range(PLACES - 2)]  # so that two talks fill the house
        for blocker in blockers:
            assert blocker.ask(start=True, image=IMAGE) == (0, "")
        num_blocks = round(seconds / 0.48)
        calm = [Talk(made.url, seed, num_blocks) for seed in (1, 2)]
        assert all(_kept(blockers, calm))
        calm_s = np.concatenate([late_s(talk) for talk in calm])
        busy = [Talk(made.url, seed, num_blocks) for seed in (1, 2)]
        for talk in busy:
            talk.wait_for(2)
        waits_s: list[float] = []
        is_over = threading.Event()
        crowd = [
            threading.Thread(target=_knock, args=(made.stream(), waits_s, is_over))
            for _ in range(VISITORS)
        ]
        for one in crowd:
            one.start()
        is_whole = _kept(blockers, busy)
        is_over.set()
        for one in crowd:
            one.join()
        for blocker in blockers:
            blocker.ask(end=True)
            blocker.close()
        busy_s = np.concatenate([late_s(talk) for talk in busy])
    assert all(is_whole)
    assert [talk.error for talk in busy] == ["", ""]
    p50, p95, most = (1e3 * float(np.quantile(waits_s, q)) for q in (0.5, 0.95, 1.0))
    print(f"{len(waits_s)} refusals: p50 {p50:.0f}, p95 {p95:.0f}, at most {most:.0f} ms")
    calm_p99, busy_p99 = np.quantile(calm_s, 0.99), np.quantile(busy_s, 0.99)
    print(f"blocks late by p99 {1e3 * busy_p99:.0f} ms, without the crowd {1e3 * calm_p99:.0f}")
    assert len(waits_s) > VISITORS * seconds / 2
    assert p95 < 200
    assert busy_p99 < calm_p99 + 0.48


def _kept(blockers: list[Stream], talks: list[Talk]) -> list[bool]:
    """Wait for the talks; silent sessions would be freed meanwhile, so they say a little."""
    while any(talk.is_alive for talk in talks):
        time.sleep(3)
        for blocker in blockers:
            assert blocker.ask(audio=np.zeros(16, np.float32)) == (0, "")
    return [talk.join(1) for talk in talks]


def _knock(stream: Stream, waits_s: list[float], is_over: threading.Event) -> None:
    """Ask for a place again and again."""
    while not is_over.wait(PAUSE_S):
        began = time.monotonic()
        stream.session += 1
        blocks, said = stream.ask(start=True, image=IMAGE)
        waits_s.append(time.monotonic() - began)
        if not said:  # somebody has left
            stream.ask(end=True)
            break
        assert (blocks, "sessions of this server are in use" in said) == (0, True)
    stream.close()
