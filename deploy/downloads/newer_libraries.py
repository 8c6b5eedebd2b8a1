"""The C library of a newer Debian or Ubuntu beside the system's own, for a program that needs it.

apt fetches the packages from the mirror that the system is set to, checked against the system's
archive keys, with a configuration, lists and cache of its own: nothing is installed, and the
system's package lists stay as they are. A program then runs through the newer loader:

    ld-linux-x86-64.so.2 --library-path FOLDER program
"""

import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

LOADER = "ld-linux-x86-64.so.2"
PACKAGES = ("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libssl3t64", "libzstd1")
_APT_CONFIG = Path(__file__).with_name("apt.conf")
_LINE_LIMIT = 15  # of apt's words in an error


class Release(NamedTuple):
    """A release with glibc 2.38 or newer: its suite, and the keys that sign it."""

    suite: str
    keyring: Path


_KEYS = Path("/usr/share/keyrings")
RELEASES = {  # by the ID of /etc/os-release
    "debian": Release("trixie", _KEYS / "debian-archive-keyring.gpg"),
    "ubuntu": Release("noble", _KEYS / "ubuntu-archive-keyring.gpg"),
}


def glibc_version() -> tuple[int, ...]:
    """For example (2, 36); empty where the C library is another one."""
    name, version = platform.libc_ver()
    return tuple(map(int, version.split(".")[:2])) if name == "glibc" else ()


def fetch(folder: Path) -> None:
    """Put the libraries into `folder`, a new one; `RuntimeError` says what is missing."""
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        system = {}
    release = RELEASES.get(system.get("ID", ""))
    if release is None or not all(map(shutil.which, ("apt-get", "dpkg-deb"))):
        raise RuntimeError(
            f"this system ({system.get('PRETTY_NAME', 'unknown')}) has no apt that could fetch a "
            "newer C library.\n  Fix: use Debian 13, Ubuntu 24.04 or another system with glibc 2.38"
        )
    if not release.keyring.exists():
        raise RuntimeError(
            f"{release.keyring} is missing, so {release.suite}'s packages can't be checked.\n"
            f"  Fix: apt install {release.keyring.stem}"
        )
    codename = system.get("VERSION_CODENAME", "")
    with tempfile.TemporaryDirectory(prefix="newer-libraries-") as temporary:
        packages = _download(Path(temporary), release, _mirror(codename))
        _unpack(packages, Path(temporary) / "root", folder)


def _mirror(codename: str) -> str:
    """The URI that the system's apt takes `codename`'s main packages from."""
    form = "--format=$(RELEASE) $(COMPONENT) $(REPO_URI)"
    for line in _run("apt-get", "indextargets", form, "Created-By: Packages").splitlines():
        release, component, uri = line.split(maxsplit=2)
        if (release, component) == (codename, "main"):
            return uri
    raise RuntimeError(
        f"apt has no source for {codename}'s main packages, so its mirror is not known.\n"
        f"  Fix: add one to /etc/apt/sources.list.d"
    )


def _download(folder: Path, release: Release, mirror: str) -> list[Path]:
    folder.chmod(0o755)  # started by root, apt downloads as a user of its own
    for name in ("state", "lists/partial", "cache", "archives/partial"):
        (folder / name).mkdir(parents=True)
    config = folder / "apt.conf"
    config.write_text(_APT_CONFIG.read_text().format(folder=folder))
    (folder / "sources.list").write_text(
        f"deb [arch=amd64 signed-by={release.keyring}] {mirror} {release.suite} main\n"
    )
    _run("apt-get", f"--config-file={config}", "update")
    _run("apt-get", f"--config-file={config}", "download", *PACKAGES, cwd=folder)
    return sorted(folder.glob("*.deb"))


def _unpack(packages: list[Path], root: Path, folder: Path) -> None:
    for package in packages:
        _run("dpkg-deb", "--extract", str(package), str(root))
    folder.mkdir()
    # libc.so.6, libz.so.1: what programs ask for, copied from the file that the link names
    for library in root.glob("**/x86_64-linux-gnu/*.so.[0-9]"):
        shutil.copy(library, folder)
    if not (folder / LOADER).exists():
        raise RuntimeError(f"the packages {', '.join(PACKAGES)} hold no {LOADER}")


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        words = "\n".join((done.stdout + done.stderr).splitlines()[-_LINE_LIMIT:])
        name = next((word for word in command[1:] if not word.startswith("-")), "")
        raise RuntimeError(f"{command[0]} {name} failed:\n{words}")
    return done.stdout
