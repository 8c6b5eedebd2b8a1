"""Copies of the project in folders of any name, for tests that run its `make`."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import deploy

REPO = Path(deploy.__file__).resolve().parent.parent
_OURS = ("MAKE", "MFLAGS", "PYTHONPATH")


def copy(folder: Path, *names: str) -> Path:
    """The Makefile and what its first steps need, in a new folder; `names` besides."""
    folder.mkdir(parents=True)
    shutil.copy(REPO / "Makefile", folder)
    for name in ("deploy", "requirements", *names):
        ignored = shutil.ignore_patterns("__pycache__", "build")
        shutil.copytree(REPO / name, folder / name, ignore=ignored, copy_function=_link)
    return folder


def without_outer_make() -> dict[str, str]:
    """The environment without what a `make` that runs these tests has put there."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
    for line in (REPO / "Makefile").read_text().splitlines():
        environment.pop(line.split(" ?=")[0], None)
    return environment


def make(folder: Path, *arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """`make` in that folder, whatever `make` runs these tests; `before` is shell to run first."""
    environment = {**without_outer_make(), "PYTHON": sys.executable}
    command = ["sh", "-c", f'{before}\nexec make "$@"', "sh", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )


def error_lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What was said, without make's own last word."""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    return [line for line in lines if line.strip()]


def furnish(folder: Path) -> None:
    """An environment in a copy, by the packages of this one; with the client's command."""
    home = folder / ".venv"
    venv.EnvBuilder(symlinks=True, with_pip=False).create(home)
    (site,) = home.glob("lib/python*/site-packages")
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "here.pth").write_text(packages)  # a stub reads it as ASCII
    (site / "live_avatar_client").symlink_to(folder / "client" / "live_avatar_client")
    code = (
        "import sys; from pip._vendor.distlib.scripts import ScriptMaker\n"
        "maker = ScriptMaker(None, sys.argv[1]); maker.variants = {''}\n"
        "maker.make('live-avatar = live_avatar_client.command:main')\n"
        "from deploy import setup_venv as s; from pathlib import Path\n"
        "Path('.venv/.setup-run').write_text(s.stamp_text('run'))\n"
    )
    python = home / "bin" / "python3"
    subprocess.run([python, "-c", code, home / "bin"], cwd=folder, check=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copy2(source, target)
