"""The unit for systemd, read by systemd itself where it is there."""

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import needs_program

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "systemd" / "live-avatar.service"


def service() -> dict[str, str]:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their capitals
    parser.read(UNIT)
    return dict(parser["Service"])


def seconds(option: str, text: str) -> int:
    found = re.search(rf"{option} (\d+)", text)
    assert found, text
    return int(found[1])


def test_the_unit_drains_before_it_stops() -> None:
    """Whoever talks would be cut off, or the drain itself."""
    unit = service()
    drain_s = seconds("--limit-s", unit["ExecStop"])
    assert int(unit["TimeoutStopSec"]) > drain_s + seconds("--exit-timeout-s", unit["ExecStart"])
    folders = {re.search(r"--log-dir (\S+)", unit[name])[1] for name in ("ExecStart", "ExecStop")}
    assert folders == {f"/var/lib/{unit['StateDirectory']}"}


@pytest.mark.parametrize("name", ["ExecStart", "ExecStop"])
def test_the_command_line_takes_what_the_unit_says(name: str) -> None:
    """An option that was renamed would be found when the machine boots."""
    words = service()[name].split()
    assert words[1:3] == ["-m", "deploy.server"]
    done = subprocess.run(
        [sys.executable, *words[1:], "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@needs_program("systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """A line that systemd does not know is skipped in silence."""
    here = re.sub(r"/opt/live-avatar/\.venv/bin/python3", sys.executable, UNIT.read_text())
    unit = tmp_path / UNIT.name
    unit.write_text(here)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert UNIT.name not in done.stderr
