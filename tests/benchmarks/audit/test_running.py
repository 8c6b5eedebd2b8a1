"""A benchmark as a process: what it says at last, and how it may fail."""

import json
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.audit import __main__ as audit
from benchmarks.audit import record, running
from benchmarks.audit.parts import PARTS, part_named
from benchmarks.audit.running import Run, run
from tests.benchmarks.audit.reports import report


def python(code: str, limit_s: float = 60.0) -> Run:
    return run(["-c", code], limit_s, sample_s=0.05)


def test_the_last_line_is_the_result_and_memory_was_watched() -> None:
    """Tables stand above it."""
    found = python("import time; time.sleep(0.3); print('a table'); print('{\"fps\": 3}')")
    assert (found.result, found.reason) == ({"fps": 3}, "")
    assert max(megabytes for _, megabytes in found.memory_mb) > 3


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; sys.exit('error: no server')", "it ended with 1: error: no server"),
        ("import os; os._exit(3)", "it ended with 3: and said nothing"),
        ("print(7)", "its last line is no JSON object: '7'"),
        ("", "its last line is no JSON object: ''"),
        ("raise MemoryError('all of it')", "it ended with 1: MemoryError: all of it"),
    ],
)
def test_a_benchmark_that_fails_says_why(code: str, reason: str) -> None:
    """The page shows these words in place of figures."""
    found = python(code)
    assert (found.result, found.reason) == (None, reason)


def test_a_benchmark_that_hangs_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server would eat the cores of those that come behind it."""
    monkeypatch.setattr(running, "GRACE_S", 0.2)
    pid = tmp_path / "pid"
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pid)!r}, 'w').write(str(child.pid)); time.sleep(600)"
    )
    found = python(code, limit_s=2.0)
    assert (found.result, found.reason) == (None, "it took longer than its 2 s")
    deadline = time.monotonic() + 10
    while psutil.pid_exists(int(pid.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(int(pid.read_text()))


def test_parts_take_turns_and_one_that_failed_is_not_run_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Turns meet the same noise; a failure takes its time once."""
    seen = []

    def ran(arguments: list[str], _: float) -> Run:
        seen.append(arguments[1].rpartition("_")[2])
        failed = seen[-1] == "demo"
        return Run(seconds=1.0, result=None if failed else {"fps": 1}, reason="no" * failed,
                   memory_mb=[])  # fmt: skip

    monkeypatch.setattr(audit, "run", ran)
    report: dict = {"parts": {}}
    chosen = [part_named(name) for name in ("demo", "live", "schedules")]
    audit.measure(report, chosen, Path("served"), is_quick=True, rounds=2)
    assert seen == ["demo", "live", "schedules", "live", "schedules"]
    reasons = {name: part["not_measured"] for name, part in report["parts"].items()}
    assert reasons == {part.name: part.left_out or audit.NOT_ASKED for part in PARTS} | {
        "demo": "no",
        "live": "",
        "schedules": "",
    }


def test_an_unknown_part_is_answered_with_those_there_are() -> None:
    """A typing error would measure nothing."""
    with pytest.raises(ValueError, match="no part 'dem', wanted one of demo, "):
        part_named("dem")


def test_a_part_that_is_measured_again_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour of measuring would be for nothing because of one of them."""
    run = Run(seconds=1.0, result={"fps": 7}, reason="", memory_mb=[])
    monkeypatch.setattr(audit, "run", lambda *_: run)
    before = report()
    now = record.continued(report(), report() | {"commit": "7654321", "parts": {}})
    audit.measure(now, [part_named("demo")], Path("served"), is_quick=False, rounds=1)
    assert record.results(now["parts"]["demo"]) == [{"fps": 7}]
    del now["parts"]["demo"], before["parts"]["demo"]
    assert now == before


@pytest.mark.parametrize(
    "other", [{"sizes": "small"}, {"machine": {"cpu": "B", "cores": 2}}, {"artifacts": {}}]
)
def test_figures_of_two_machines_or_models_are_not_mixed(other: dict[str, Any]) -> None:
    """They would stand in one table."""
    with pytest.raises(ValueError, match="the earlier report"):
        record.continued(report(), report() | other)


SOAK = {"benchmark": "soak", "commit": "abc", "seconds": 9, "blocks": 20_000, "reloads": 20,
        "slopes": {"tritonserver": {"rss_mb": 0.2}}, "ended": [], "over": []}  # fmt: skip


def test_what_a_soak_printed_goes_into_a_report(tmp_path: Path) -> None:
    """It takes as long as all the rest, so it may have run before."""
    (tmp_path / "soak.txt").write_text(f"a table\n{json.dumps(SOAK)}\n")
    part = record.soaked(tmp_path / "soak.txt")
    assert part["options"] == "--blocks 10000 --reloads 20"
    assert record.results(part) == [SOAK]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not end with the JSON object of benchmarks.soak"),
        ('{"benchmark": "demo"}', "does not end with"),
        (json.dumps(SOAK | {"over": ["tritonserver: rss_mb +9.00"]}), r"failed: .*\+9\.00"),
    ],
)
def test_a_soak_that_failed_is_not_put_into_a_report(tmp_path: Path, text: str, words: str) -> None:
    """Its sessions may have ended early, and what grew would look like a figure."""
    (tmp_path / "soak.txt").write_text(text)
    with pytest.raises(ValueError, match=words):
        record.soaked(tmp_path / "soak.txt")


def test_a_folder_that_is_no_repository_is_refused_before_anything_runs(tmp_path: Path) -> None:
    """With the command that makes one."""
    with pytest.raises(ValueError, match="make repository"):
        record.head(tmp_path, is_quick=True)
