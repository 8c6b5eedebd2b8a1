"""The end of a server that cuts nobody off: no new sessions, then wait for those that are open.

After SIGTERM Triton takes no call between its models any more, so sessions have to end before it.
New ones are refused by taking `conditioning` out, which only they need.
"""

import time
from pathlib import Path
from typing import Any

from deploy.outcome import say
from deploy.server import process, supervise
from deploy.server.admin import read_key
from deploy.server.folder import clear, describe
from deploy.server.health import CONDITIONING, open_sessions, unload_model
from deploy.server.local import KILL_MARGIN_S
from deploy.server.ports import Ports

POLL_S, TELL_S = 0.25, 5.0
SETTLE_S = 1.0
"""A session that was admitted a moment before shows in the metrics after this."""
EMPTY_EXIT_S = 4.0
"""For a server without sessions. Triton counts a client that was refused and sent no END as a call
that is open, and would wait for it in vain."""


def drain(log_dir: Path, state: dict[str, Any], limit_s: float) -> int:
    """Drain and end the server of this state; the number of sessions that the limit cut off.
    `RuntimeError` if it can't be drained."""
    ports, began_s = Ports(**state["ports"]), time.monotonic()
    if not unload_model(ports, CONDITIONING, read_key(log_dir)):
        raise RuntimeError(f"{describe(state)} can't be drained: it does not unload {CONDITIONING}")
    say(f"{describe(state)} takes no new sessions; waiting up to {limit_s:g} s for those it has")
    time.sleep(SETTLE_S)
    told_s, left = began_s, open_sessions(ports)
    while left and time.monotonic() - began_s < limit_s:
        if time.monotonic() - told_s > TELL_S:
            told_s = time.monotonic()
            say(f"{left} session{'s' * (left != 1)} after {told_s - began_s:.0f} s")
        time.sleep(POLL_S)
        left = open_sessions(ports)
    supervise.end(log_dir)
    timeout_s = state["exit_timeout_s"] + KILL_MARGIN_S if left else EMPTY_EXIT_S
    process.end(state["pid"], state["token"], timeout_s)
    clear(log_dir)
    cut_off = left or 0
    words = f"; {cut_off} sessions were cut off" if cut_off else ""
    say(f"{describe(state)} is stopped after {time.monotonic() - began_s:.1f} s{words}")
    return cut_off
