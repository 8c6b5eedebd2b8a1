"""Fetch the Triton server that runs on a laptop: unpack a published wheel into build/tritonserver.

The wheel nvidia-pytriton 0.7.0 carries the real `tritonserver` 2.51.0 (24.10), the Python backend
and its helper processes ("stubs"). Only these are unpacked; the wheel's Python API is not used.
"""

import os
import platform
import re
import shutil
import sys
import zipfile
from pathlib import Path

from deploy import checkout
from deploy.checkout import REPO
from deploy.downloads import wheel
from deploy.outcome import say

HOME = REPO / "build" / "tritonserver"
LOCK = REPO / "requirements" / "triton.lock"

# inside HOME; the binaries find their libraries relative to themselves, so these depths are fixed
SERVER = Path("pytriton/tritonserver/bin/tritonserver")
LIBRARIES = Path("nvidia_pytriton.libs")
BACKEND = Path("pytriton/tritonserver/backends/python")
STUBS = Path("pytriton/tritonserver/python_backend_stubs")
STUB_NAME = "triton_python_backend_stub"

SPACE_MB = 250
"""Of the disk: the wheel, and what is unpacked of it (107 MB)."""
PYTHONS = ("3.11", "3.12")
_NOT_NEEDED = re.compile(r"libpython3|\.py[ci]$")  # libpython serves the stub of Python 3.13 alone
_LAYOUT = "1"  # raise when `fetch` lays the folder out differently


def backend_directory(home: Path, python_version: str) -> Path:
    """The value of --backend-directory for models run by Python "3.11" or "3.12"."""
    return home / BACKEND.parents[1] / f"backends-{python_version}"


def is_fetched(home: Path = HOME) -> bool:
    return wheel.is_unpacked(home, _stamp())


def fetch(home: Path = HOME, python: str | Path = sys.executable) -> Path:
    """Download the wheel with `python -m pip`, check its sha256, unpack it, unless that was done
    before; returns `home`. `RuntimeError` says why it cannot be done."""
    if is_fetched(home):
        return home
    _check_platform()
    checkout.check_writable(home.parent)
    checkout.check_space(home.parent, SPACE_MB)
    say("fetching Triton 2.51.0 (55 MB)")
    with wheel.unpacking(LOCK, home, _stamp(), python) as (file, fresh):
        say(f"unpacking it into {home}")
        with zipfile.ZipFile(file) as archive:
            archive.extractall(fresh, [n for n in archive.namelist() if _is_needed(n)])
        for version in PYTHONS:
            _lay_out_backend(fresh, version)
        (fresh / SERVER).chmod(0o755)
        shutil.rmtree(fresh / STUBS)
        shutil.rmtree(fresh / BACKEND.parent)
    return home


def _lay_out_backend(home: Path, version: str) -> None:
    # A stub finds its libraries only beside the backend, and the backend takes the one stub that
    # lies there: one folder per Python version lets servers of both run at the same time.
    folder = backend_directory(home, version) / "python"
    folder.mkdir(parents=True)
    for file in (home / BACKEND).iterdir():
        os.link(file, folder / file.name)
    os.link(home / STUBS / version / STUB_NAME, folder / STUB_NAME)
    (folder / STUB_NAME).chmod(0o755)


def _is_needed(name: str) -> bool:
    if name.endswith("/") or _NOT_NEEDED.search(name):
        return False
    stubs = tuple(f"{STUBS}/{version}/" for version in PYTHONS)
    return name.startswith((f"{LIBRARIES}/", f"{BACKEND}/", str(SERVER), *stubs))


def _stamp() -> str:
    return f"{wheel.sha256_wanted(LOCK)} {_LAYOUT}\n"


def _check_platform() -> None:
    wheel.check_platform(
        "the local Triton server exists for",
        ". Serve the repository from NVIDIA's Triton container there",
    )
    libc, version = platform.libc_ver()
    if libc != "glibc" or tuple(map(int, version.split(".")[:2])) < (2, 35):
        raise RuntimeError(
            f"this system's C library is {libc or 'not glibc'} {version}; the local Triton server "
            "needs glibc 2.35 or newer (Debian 12, Ubuntu 22.04, or later)"
        )
