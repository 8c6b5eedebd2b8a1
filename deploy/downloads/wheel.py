"""Wheels that are unpacked rather than installed, downloaded against their lock's checksum."""

import hashlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_STAMP = ".stamp"


def check_platform(what: str, fix: str) -> None:
    """`RuntimeError` with the fix where this is no Linux on x86-64."""
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise RuntimeError(f"this is {system} on {machine}; {what} Linux on x86-64 alone{fix}")


def is_unpacked(home: Path, stamp: str) -> bool:
    """Whether `renewed` has made the folder with this stamp."""
    path = home / _STAMP
    return path.exists() and path.read_text() == stamp


@contextmanager
def renewed(home: Path, stamp: str) -> Iterator[Path]:
    """A folder beside `home`, which takes its place at the end and so is never half done."""
    fresh = home.with_name(f".{home.name}.new-{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        yield fresh
        (fresh / _STAMP).write_text(stamp)
        shutil.rmtree(home, ignore_errors=True)
        fresh.rename(home)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def sha256_wanted(lock: Path) -> str:
    """The checksum in a lock file of one wheel."""
    found = re.search(r"sha256:([0-9a-f]{64})", lock.read_text())
    assert found, f"{lock} names no sha256"
    return found.group(1)


def download(
    lock: Path, cache: Path, python: str | Path, *, pip_options: Sequence[str] = ()
) -> Path:
    """The lock's wheel in `cache`, from the registry that pip knows unless it lies there already.

    `RuntimeError` says in words what to do without a network.
    """
    if wheel := _cached(lock, cache):
        return wheel
    command = [python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-input", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += [*pip_options, "--dest", cache, "-r", lock]
    if subprocess.run(command, stdin=subprocess.DEVNULL).returncode:
        raise RuntimeError(
            f"pip could not download the wheel {_requirement(lock)} (its words are above). Without "
            f"a network, put that wheel into {cache} by hand and run this again"
        )
    if wheel := _cached(lock, cache):
        return wheel
    raise RuntimeError(f"no wheel in {cache} has the sha256 {sha256_wanted(lock)} of {lock.name}")


def _requirement(lock: Path) -> str:
    found = re.search(r"^(\S+)==(\S+)", lock.read_text(), re.MULTILINE)
    assert found, f"{lock} names no package"
    return f"{found.group(1)} {found.group(2)}"


def _cached(lock: Path, cache: Path) -> Path | None:
    wanted, package = sha256_wanted(lock), _requirement(lock).split()[0].replace("-", "_")
    for wheel in cache.glob(f"{package}-*.whl"):
        with wheel.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == wanted:
                return wheel
    return None
