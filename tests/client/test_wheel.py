"""The client's folder is a whole package: it builds, installs and runs by itself."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from live_avatar_client import __all__ as public_names
from live_avatar_client import __version__
from tests.support.command_line import ROOT

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir"]


def run(*command: str | Path, **environment: str) -> str:
    """Its stdout; without -S a link in this environment would lead back to the checkout."""
    ended = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=120
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of `client/`, built and installed without a network."""
    pytest.importorskip("setuptools", "77", reason="the wheel's build backend is setuptools 77")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "client"  # a build leaves files behind
    shutil.copytree(ROOT / "client", source, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    offline = ("--no-index", "--no-deps", "-q")
    run(*PIP, "wheel", *offline, "--no-build-isolation", "-w", folder, source)
    (wheel,) = folder.glob("*.whl")
    run(*PIP, "install", *offline, "--target", folder / "site", wheel)
    return folder / "site"


def from_wheel(installed: Path, *command: str | Path) -> str:
    """What Python says that knows the wheel and its requirements, and nothing of the checkout."""
    site = sysconfig.get_path("purelib")
    path = os.pathsep.join([str(installed), site])
    return run(sys.executable, "-S", *command, PYTHONPATH=path, COLUMNS="80")


def test_the_installed_client_has_its_command(installed: Path) -> None:
    """A package left out of the wheel is missed by users alone."""
    for command in ([installed / "bin" / "live-avatar"], ["-m", "live_avatar_client"]):
        said = from_wheel(installed, *command, "--help")
        assert all(name in said for name in ("stream", "generate", "health"))


def test_the_installed_client_has_the_page_of_the_gateway(installed: Path) -> None:
    """Files that are no modules stay behind unless they are named."""
    page = Path("live_avatar_client/gateway/page")
    files = {path.name for path in (ROOT / "client" / page).iterdir()}
    assert files == {path.name for path in (installed / page).iterdir()}


def test_the_installed_client_gives_its_public_names(installed: Path) -> None:
    """The names that programs import, from the wheel and not from here."""
    code = (
        f"import live_avatar_client as c\nfrom live_avatar_client import {', '.join(public_names)}"
    )
    said = from_wheel(installed, "-c", f"{code}\nprint(c.__file__, c.__version__, sep='\\n')")
    place, version = said.split()
    assert Path(place).is_relative_to(installed)
    assert version == __version__


def test_the_wheel_says_what_it_is(installed: Path) -> None:
    """Licence, authors and read-me are what a registry shows."""
    (found,) = metadata.distributions(path=[str(installed)])
    assert (found.name, found.version) == ("live-avatar-client", __version__)
    assert found.metadata["License-Expression"] == "Apache-2.0"
    assert found.metadata["Author"] == "The live-avatar-server authors"
    assert found.metadata.get_payload().startswith("# live-avatar-client")
    licence = next(f for f in found.files or [] if f.name == "LICENSE")
    assert licence.read_text() == (ROOT / "LICENSE").read_text()


def test_the_version_stands_in_one_place() -> None:
    """Two would differ after the next release; the changelog begins with the version as it is."""
    for folder in (ROOT, ROOT / "client"):
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        assert project["dynamic"] == ["version"]
    first = re.search(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first is not None
    assert first[1].split()[0] == __version__
