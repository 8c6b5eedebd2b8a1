"""The benchmark of glass to glass runs, and its figures can be believed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench_glass import Look, figures
from benchmarks.glass_marks import COLUMNS, MODULUS, ROWS, delay_ms, marked
from export.repository.assemble import assemble
from tests.conftest import ROOT


def test_a_mark_is_in_the_picture_and_leaves_the_rest() -> None:
    """A wrong bit would be a delay that nobody had."""
    picture = np.full((96, 96, 3), 77, np.uint8)
    found = marked(picture, 0b1010_0000_0000_0000_0000_0001 + MODULUS)
    cells = found[4 : ROWS * 8 : 8, 4:96:8, 0].reshape(-1)
    assert cells.tolist() == [255, 0, 255, *[0] * (COLUMNS * ROWS - 4), 255]
    assert (found[ROWS * 8 :] == 77).all()
    assert (picture == 77).all()


def test_delays_count_across_the_end_of_the_marks() -> None:
    """Every four hours a delay would be of four hours."""
    assert delay_ms(MODULUS - 10, 5 * MODULUS + 20) == 30
    assert delay_ms(20, 5 * MODULUS - 10) == -30


def test_figures_count_frames_that_were_due_and_not_seen() -> None:
    """Five frames, of which one was shown but not looked at, and one can't be read."""
    seen = [
        Look(mark=mark, composed_ms=at + 50, shown_ms=at + 60, media_ms=0, presented=number)
        for number, mark, at in ((7, 0, 0), (8, None, 40), (9, 80, 80), (11, 160, 160))
    ]
    found = figures(seen)
    assert found["shown_ms"] == {"p50": 60, "p95": 60, "p99": 60}
    assert [found[name] for name in ("due", "presented", "seen", "unread")] == [5, 5, 3, 1]


@pytest.mark.slow
@pytest.mark.triton
def test_both_ways_show_most_frames_within_two_seconds(tmp_path: Path) -> None:
    """The figures in the documents could not be taken again."""
    pytest.importorskip("playwright.sync_api", reason="say: make test-browser")
    assemble(ROOT / "artifacts" / "demo", tmp_path / "repository", live=True)
    command = [sys.executable, "-m", "benchmarks.bench_glass", "--seconds", "4", "--settle", "2"]
    command += ["--repository", str(tmp_path / "repository")]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    report = json.loads(said.stdout.splitlines()[-1])
    for way in ("webrtc", "mp4"):
        assert report[way]["seen"] > 0.7 * report[way]["due"] > 0
        assert 0 < report[way]["shown_ms"]["p95"] < 2000
        assert report[way]["unread"] == 0
