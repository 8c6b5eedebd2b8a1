"""What `make` is given: refused at once where it cannot be, passed on as it is where it can."""

import shutil
import time
from pathlib import Path

import pytest

from deploy import settings
from tests.support.odd_checkout import copy, error_lines, make

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
AT_ONCE_S = 10
"""Half a second on a machine that is free; making an environment takes longer than this."""

BAD_SETTINGS = [
    ("PRESET=xyz", "PRESET is 'xyz', wanted one of demo, rolling-demo"),
    ("PRESET=..", "PRESET is '..'"),
    ("PRESET=", "PRESET is ''"),
    ("BACKEND=tpu", "BACKEND is 'tpu', wanted cpu or gpu"),
    ("GPUS=abc", "GPUS is 'abc', wanted a whole number 1..64"),
    ("GPUS=0", "GPUS is '0'"),
    ("SESSIONS=1.5", "SESSIONS is '1.5', wanted a whole number"),
    ("HOURS=nan", "HOURS is 'nan', wanted a number"),
    (
        "TRACE_URL=localhost:4318",
        "TRACE_URL is 'localhost:4318', wanted http://HOST:PORT/v1/traces",
    ),
    ("GPU_MEMORY_GB=much", "GPU_MEMORY_GB is 'much'"),
    ("GRPC_PORT=abc", "GRPC_PORT is 'abc', wanted a port 1..65535"),
    ("HTTP_PORT=65536", "HTTP_PORT is '65536', wanted a port"),
    ("METRICS_PORT=-1", "METRICS_PORT is '-1', wanted a port"),
    ("GRPC_PORT=8000", "the ports must differ"),
    ("PYTHON=/no/such python", "there is no program /no/such python: name a Python"),
    ("ARTIFACTS=my graphs", "ARTIFACTS is 'my graphs', a folder with a space"),
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy(tmp_path_factory.mktemp("plain") / "checkout")
    (folder / "my graphs").mkdir()
    return folder


@needs_make
@pytest.mark.parametrize(("setting", "words"), BAD_SETTINGS, ids=[s for s, _ in BAD_SETTINGS])
def test_a_setting_that_cannot_be_is_refused_at_once_in_one_line(
    plain: Path, setting: str, words: str
) -> None:
    """After a minute of downloads, a usage text of ten lines would say it."""
    began = time.monotonic()
    done = make(plain, "serve", setting)
    assert time.monotonic() - began < AT_ONCE_S
    assert done.returncode != 0
    (line,) = error_lines(done)
    assert line.startswith("error: ")
    assert words in line
    assert not (plain / ".venv").exists()


@needs_make
def test_stop_without_a_server_is_fine_twice(plain: Path) -> None:
    """`make clean` runs it each time."""
    for _ in range(2):
        done = make(plain, "stop")
        assert (done.returncode, error_lines(done)) == (0, ["no server runs"])


@needs_make
def test_values_reach_the_commands_as_they_were_given(plain: Path, tmp_path: Path) -> None:
    """Unquoted, a space splits a file's name, a dollar or a quote changes it."""
    fake = plain / ".venv" / "bin" / "python3"
    fake.parent.mkdir(parents=True)
    fake.write_text('#!/bin/sh\nfor each in "$@"; do printf "<%s>" "$each"; done\necho\n')
    fake.chmod(0o755)
    odd = 'a  b/it\'s $HOME $(x) `y` "q" \\ *.png'
    skipped = ("-o", "fetch", "-o", "repository")
    done = make(plain, *skipped, "demo", f"PORTRAIT={odd}", "OUT=~/x y")
    shutil.rmtree(plain / ".venv")
    assert f"<--image><{odd}>" in done.stdout
    assert f"<--out><{Path.home()}/x y>" in done.stdout


def test_presets_are_those_that_there_are() -> None:
    """A new preset would be refused by make."""
    pytest.importorskip("torch")
    from networks.presets import PRESETS
    from networks.rolling_presets import ROLLING_PRESETS

    assert sorted(settings.PRESETS) == sorted({**PRESETS, **ROLLING_PRESETS})


def test_a_preset_of_ones_own_is_taken(tmp_path: Path) -> None:
    """With a folder of its own, or of graphs that were named, it is no mistake."""
    (tmp_path / "artifacts" / "mine").mkdir(parents=True)
    settings.check({"PRESET": "mine", "ARTIFACTS": "artifacts/mine"}, tmp_path)
    settings.check({"PRESET": "theirs", "ARTIFACTS": "graphs"}, tmp_path)
    with pytest.raises(ValueError, match="PRESET is 'theirs'"):
        settings.check({"PRESET": "theirs", "ARTIFACTS": "artifacts/theirs"}, tmp_path)
