"""Faults of a whole machine: no room, or another time. They happen in a process of their own, with
file systems of their own:

    unshare -m python -m tests.faults.elsewhere FOLDER shm|log|clock
"""

import json
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from tests.faults.outcome import Outcome, observed
from tests.faults.scene import Scene, scene

ROOT = Path(__file__).parents[2]
CLOCK = Path(__file__).with_name("shifted_clock.c")
JUMPS_S = (3600.0, 7200.0, 86_400.0)
"""Ahead only: the system waits by its own clock, and a step back would make deadlines past."""


class NotHereError(Exception):
    """This machine does not let us try it; says why."""


def elsewhere(at: Path, what: str) -> Outcome:
    """The outcome of a fault there; `NotHereError` if it can't be tried."""
    if what == "clock" and shutil.which("cc") is None:
        raise NotHereError("it takes a C compiler, cc: apt-get install gcc")
    command = [sys.executable, "-m", "tests.faults.elsewhere", str(at), what]
    if what != "clock":
        command = ["unshare", "-m", *command]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode and "ermitted" in done.stderr:
        raise NotHereError("it takes the right to mount a file system")
    assert done.returncode == 0, done.stderr[-2000:]
    return Outcome(**json.loads(done.stdout.splitlines()[-1]))


def mount(folder: Path, size_mb: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "none", str(folder)]
    subprocess.run(command, check=True)


def filling(folder: Path, but_mb: float) -> Callable[[Scene], str]:
    """Takes all room in a folder but so much."""

    def strike(_: Scene) -> str:
        room = shutil.disk_usage(folder).free - round(but_mb * 1e6)
        (folder / "filler").write_bytes(bytes(max(0, room)))
        return ""

    return strike


def jumping(clock: Path) -> Callable[[Scene], str]:
    """Lets the wall clock jump, a second apart."""

    def strike(_: Scene) -> str:
        with clock.open("r+b") as file:
            for seconds in JUMPS_S:
                file.seek(0)
                file.write(struct.pack("d", seconds))
                file.flush()
                time.sleep(1)
        return ""

    return strike


def prepared(at: Path, what: str) -> Callable[[Scene], str]:
    """What is to strike, once the machine is made ready for it."""
    if what == "clock":
        clock, built = at / "clock", at / "shifted_clock.so"
        clock.write_bytes(struct.pack("d", 0.0))
        command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(built), str(CLOCK), "-ldl"]
        subprocess.run(command, check=True)
        os.environ |= {"LD_PRELOAD": str(built), "CLOCK_SHIFT": str(clock)}
        return jumping(clock)
    if what == "log":
        mount(at / "log", 20)
        return filling(at / "log", 0.0)
    mount(Path("/dev/shm"), 300)
    return filling(Path("/dev/shm"), 2.0)


def main() -> None:
    at, what = Path(sys.argv[1]), sys.argv[2]
    strike = prepared(at, what)
    with scene(at) as made:
        found = observed(made, strike)
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
