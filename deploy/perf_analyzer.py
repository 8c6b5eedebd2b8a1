"""perf_analyzer, NVIDIA's load generator for Triton, unpacked into build/perf_analyzer.

    python -m deploy.perf_analyzer        downloads it, once, and prints how to call it

A published wheel carries the binary, which needs glibc 2.38. On an older Debian or Ubuntu it runs
on a newer release's libraries that lie beside it (deploy/newer_libraries.py).
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from deploy import locked_wheel, newer_libraries, server_command
from deploy.checkout import REPO
from deploy.outcome import exit_code, say

HOME = REPO / "build" / "perf_analyzer"
LOCK = REPO / "requirements" / "perf-analyzer.lock"
VERSION = "2.60.0"
GLIBC = (2, 38)

_MEMBER = "perf_analyzer/bin/perf_analyzer"
_PLATFORM = "manylinux_2_38_x86_64"
_LAYOUT = "1"  # raise when `install` lays the folder out differently


def command(home: Path = HOME) -> list[str]:
    """How the installed perf_analyzer is called; its arguments follow."""
    program, libraries = home / "perf_analyzer", home / "lib"
    if not libraries.exists():
        return [str(program)]
    loader = libraries / newer_libraries.LOADER
    return [str(loader), "--library-path", str(libraries), str(program)]


def is_installed(home: Path = HOME) -> bool:
    stamp = home / ".stamp"
    return stamp.exists() and stamp.read_text() == _stamp()


def install(home: Path = HOME, python: str | Path | None = None) -> list[str]:
    """Download, check, unpack and try it, unless that was done before; returns `command(home)`.

    python: the interpreter whose pip downloads. `RuntimeError` says why it cannot be done.
    """
    if is_installed(home):
        return command(home)
    _check_platform()
    cache = home.parent / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    say(f"fetching perf_analyzer {VERSION} (7 MB)")
    # pip would not offer a wheel for a newer C library than the system's
    wheel = locked_wheel.download(
        LOCK,
        cache,
        python or server_command.default_python(),
        pip_options=["--platform", _PLATFORM],
    )
    fresh = home.with_name(f".{home.name}.new-{os.getpid()}")
    try:
        _lay_out(wheel, fresh)
        _try(command(fresh))
        (fresh / ".stamp").write_text(_stamp())
        shutil.rmtree(home, ignore_errors=True)
        fresh.rename(home)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    wheel.unlink()  # pip's own cache keeps a copy
    return command(home)


def _lay_out(wheel: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    program = folder / "perf_analyzer"
    with zipfile.ZipFile(wheel) as archive:
        program.write_bytes(archive.read(_MEMBER))
    program.chmod(0o755)
    if _needs_libraries():
        say("fetching the libraries of a newer release for it (17 MB)")
        try:
            newer_libraries.fetch(folder / "lib")
        except RuntimeError as error:
            raise RuntimeError(f"perf_analyzer {VERSION} needs glibc 2.38, and {error}") from None


def _try(program: list[str]) -> None:
    try:
        done = subprocess.run([*program, "--version"], capture_output=True, text=True)
    except OSError as error:
        raise RuntimeError(f"perf_analyzer does not start: {error}") from None
    if done.returncode:
        raise RuntimeError(
            f"perf_analyzer does not start: {(done.stderr or done.stdout).strip()}\n"
            "  Fix on Debian and Ubuntu: apt install libssl3t64 libstdc++6 zlib1g"
        )


def _needs_libraries() -> bool:
    return newer_libraries.glibc_version() < GLIBC


def _stamp() -> str:
    libraries = "newer" if _needs_libraries() else "own"
    return f"{locked_wheel.sha256_wanted(LOCK)} {_LAYOUT} {libraries} libraries\n"


def _check_platform() -> None:
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise RuntimeError(
            f"this is {system} on {machine}; perf_analyzer is published for Linux on x86-64 "
            "alone.\n  Fix: run the load test there"
        )


def main() -> int:
    print(shlex.join(install()))
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
