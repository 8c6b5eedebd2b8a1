"""What everybody saw of a fault."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.scene import STRIKES_AT, Health, Scene
from tests.faults.talks import Resumed

BACK_S = 45.0
"""After a fault, a new session is served within this, even on a machine that is busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of one fault, for two people who talked when it struck. Times in seconds."""

    maker: str  # what its maker saw
    ends: list[str]  # what was said of sessions that ended before their time, at each try
    is_equal: bool  # whether all frames are those of the undisturbed talks
    is_whole: bool  # whether both talks came to their end
    gap_s: float  # the longest between two blocks, in either talk
    peace_gap_s: float
    red_s: float | None  # /ready was red so long after the fault; None: it stayed green
    back_s: float  # until a new session was served and /ready was green
    left: list[str]  # processes and shared memory of servers that are gone


def observed(scene: Scene, strike: Callable[[Scene], str]) -> Outcome:
    """Let two people talk, do it in the middle, and look."""
    health = Health(scene.ports.ready)
    talks = scene.talks()
    for talk in talks:
        talk.wait_for(STRIKES_AT)
    struck_s = time.monotonic()
    with Resumed() as resumed:
        maker = strike(scene)
        is_whole = all(talk.join(BACK_S) for talk in talks)
    while not (scene.is_served() and health.is_ready):
        assert time.monotonic() - struck_s < 2 * BACK_S, health.changes
        time.sleep(0.1)
    greens = [at_s - struck_s for at_s, ready in health.changes if ready and at_s > struck_s]
    health.close()
    return Outcome(
        maker=maker,
        ends=[*resumed.words, *(talk.error for talk in talks if talk.error)],
        is_equal=[talk.checksums for talk in talks] == scene.wanted,
        is_whole=is_whole,
        gap_s=max(talk.gap_s(struck_s) for talk in talks),
        peace_gap_s=scene.peace_gap_s,
        red_s=health.red_after_s(struck_s),
        back_s=max(greens, default=0.0),
        left=scene.leftovers(),
    )
