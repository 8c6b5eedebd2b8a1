"""perf_analyzer, NVIDIA's load generator for Triton, unpacked into build/perf_analyzer.

    python -m deploy.downloads.perf_analyzer        downloads it, once, and prints how to call it

A published wheel carries the binary, which needs glibc 2.38. On an older Debian or Ubuntu it runs
on a newer release's libraries that lie beside it (`newer_libraries`).
"""

import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

from deploy.checkout import REPO, default_python
from deploy.downloads import newer_libraries, wheel
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
    return wheel.is_unpacked(home, _stamp())


def install(home: Path = HOME) -> list[str]:
    """Download, check, unpack and try it, unless that was done before; returns `command(home)`.
    `RuntimeError` says why it cannot be done."""
    if is_installed(home):
        return command(home)
    wheel.check_platform("perf_analyzer is published for", ".\n  Fix: run the load test there")
    say(f"fetching perf_analyzer {VERSION} (7 MB)")
    # pip would not offer a wheel for a newer C library than the system's
    options, python = ["--platform", _PLATFORM], default_python()
    with wheel.unpacking(LOCK, home, _stamp(), python, pip_options=options) as (file, fresh):
        _lay_out(file, fresh)
        _try(command(fresh))
    return command(home)


def _lay_out(file: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    program = folder / "perf_analyzer"
    with zipfile.ZipFile(file) as archive:
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
    return f"{wheel.sha256_wanted(LOCK)} {_LAYOUT} {libraries} libraries\n"


def main() -> int:
    print(shlex.join(install()))
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
