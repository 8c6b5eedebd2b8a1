"""A program that we wait for, and that ends by itself when we are told to end.

`subprocess.run` kills its program a quarter of a second after Ctrl-C. A client that still writes
its video then would lose it.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(command: Sequence[str]) -> int:
    """The exit code of `command`; 128 and the signal's number where a signal has killed it.

    Each signal of `PASSED_ON` goes on to the program, and we wait for its own end; one that is
    ignored, as under nohup, stays so. The program is a process group of its own: a Ctrl-C in the
    terminal reaches it once, through us. To be called from the main thread. `FileNotFoundError` if
    there is no such program.
    """
    arrived: list[int] = []
    running: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _: object) -> None:
        arrived.append(number)
        for program in running:
            program.send_signal(number)

    before = {number: signal.getsignal(number) for number in PASSED_ON}
    ours = [number for number in PASSED_ON if before[number] is not signal.SIG_IGN]
    try:
        for number in ours:
            signal.signal(number, pass_on)
        running.append(subprocess.Popen(command, process_group=0))
        for early in arrived:  # while the program was being started
            running[0].send_signal(early)
        code = running[0].wait()
    finally:
        for number in ours:
            signal.signal(number, before[number])
    return code if code >= 0 else 128 - code
