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
    """Whether `unpacking` has made the folder with this stamp."""
    path = home / _STAMP
    return path.exists() and path.read_text() == stamp


@contextmanager
def unpacking(
    lock: Path, home: Path, stamp: str, python: str | Path, *, pip_options: Sequence[str] = ()
) -> Iterator[tuple[Path, Path]]:
    """The lock's wheel, and a folder that takes `home`'s place at the end, so is never half done.
    `RuntimeError` if there is no wheel to be had."""
    cache = home.parent / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    file = download(lock, cache, python, pip_options=pip_options)
    fresh = home.with_name(f".{home.name}.new-{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        yield file, fresh
        (fresh / _STAMP).write_text(stamp)
        shutil.rmtree(home, ignore_errors=True)
        fresh.rename(home)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    file.unlink()  # pip's own cache keeps a copy


def sha256_wanted(lock: Path) -> str:
    """The checksum in a lock file of one wheel."""
    return _locked(lock)[2]


def download(
    lock: Path, cache: Path, python: str | Path, *, pip_options: Sequence[str] = ()
) -> Path:
    """The lock's wheel in `cache`, from the registry that pip knows unless it lies there already.
    `RuntimeError` says in words what to do without a network."""
    package, version, sha256 = _locked(lock)
    if wheel := _cached(package, sha256, cache):
        return wheel
    command = [python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-input", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += [*pip_options, "--dest", cache, "-r", lock]
    if subprocess.run(command, stdin=subprocess.DEVNULL).returncode:
        raise RuntimeError(
            f"pip could not download the wheel {package} {version} (its words are above). Without "
            f"a network, put that wheel into {cache} by hand and run this again"
        )
    if wheel := _cached(package, sha256, cache):
        return wheel
    raise RuntimeError(f"no wheel in {cache} has the sha256 {sha256} of {lock.name}")


def _locked(lock: Path) -> tuple[str, ...]:
    """Package, version and checksum."""
    entry = r"^(\S+)==(\S+).*?sha256:([0-9a-f]{64})"
    found = re.search(entry, lock.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"{lock} names no wheel with its sha256"
    return found.groups()


def _cached(package: str, sha256: str, cache: Path) -> Path | None:
    for wheel in cache.glob(f"{package.replace('-', '_')}-*.whl"):
        with wheel.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
                return wheel
    return None
