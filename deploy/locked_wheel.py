"""Wheels that are unpacked rather than installed, downloaded against their lock's checksum.

Standard library only.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path


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
