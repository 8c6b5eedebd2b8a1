"""Twenty-four faults, on the real server, with two people who talk when they strike.

What they saw is kept in out/faults.json, from which `python -m tests.faults.table` writes
docs/faults.md.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.server.admin import read_key
from deploy.server.health import why_not_ready
from tests.faults.catalogue import FAULTS, Fault, refused_start
from tests.faults.elsewhere import NotHereError, elsewhere
from tests.faults.outcome import Outcome, observed
from tests.faults.scene import Scene, scene
from tests.faults.table import RESULTS, Row, row
from tests.server.test_configurations import flip, set_field, set_parameter, unlinked

pytestmark = [pytest.mark.slow, pytest.mark.triton]
ROOT = Path(__file__).parents[2]
RED_S = 0.5
BUSY = 2.0
"""What is wanted is told in the table; a machine that does other things, too, gets twice that."""

Tell = Callable[[Row], None]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("faults")) as made:
        yield made


@pytest.fixture(scope="module")
def tell() -> Iterator[Tell]:
    """Keeps a row of the table."""
    rows: dict[str, dict[str, Any]] = {}
    if RESULTS.exists():
        rows = json.loads(RESULTS.read_text())

    def keep(row: Row) -> None:
        rows[row.number] = row.as_dict()

    yield keep
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


def check(fault: Fault, found: Outcome) -> None:
    """What everybody is owed."""
    assert found.is_whole
    assert found.left == []
    if fault.breaks == "session":
        assert found.gap_s <= BUSY * 8
        assert found.ends
    else:
        assert found.ends == []
        assert found.is_equal
        if fault.breaks == "model":
            assert found.gap_s <= BUSY * 3.0
        else:
            assert found.gap_s <= found.peace_gap_s + BUSY * fault.costs_s
    if fault.breaks:
        assert found.red_s is not None
        assert found.red_s <= BUSY * RED_S
    else:
        assert found.red_s is None


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"fault_{fault.number}")
def test_people_outlive(fault: Fault, stage: Scene, tell: Tell) -> None:
    """Everybody who talks would be cut off, or wait for somebody else's mistake."""
    found = observed(stage, fault.strike)
    tell(row(fault.number, fault.what, fault.breaks, found))
    check(fault, found)


ELSEWHERE = [
    ("13", "shared memory has 2 MB left", "shm"),
    ("14", "the disk of the log is full", "log"),
    ("15", "the wall clock jumps ahead by 1 h, 2 h, 1 day", "clock"),
]


@pytest.mark.parametrize(("number", "what", "where"), ELSEWHERE)
def test_people_outlive_a_machine_s_faults(
    number: str, what: str, where: str, tmp_path: Path, tell: Tell
) -> None:
    """Nobody gets up at night because a log grew."""
    try:
        found = elsewhere(tmp_path, where)
    except NotHereError as why:
        tell(Row.of_words(number, what, f"not tried: {why}"))
        pytest.skip(str(why))
    tell(row(number, what, "", found))
    check(Fault(number=number, what=what, strike=lambda _: ""), found)


def _contradict(models: Path) -> None:
    set_parameter(models, "dit_stage_1", "max_sessions", "1")
    set_field(models, "vae_decoder", "num_steps", 3)


def _cut_off(models: Path) -> None:
    graph = unlinked(models / "dit_stage_0" / "1" / "dit_step.onnx")
    graph.write_bytes(graph.read_bytes()[:1000])


SPOILT = [
    ("16", "models whose configurations contradict each other", _contradict),
    ("17", "a graph that is cut off", _cut_off),
    (
        "17b",
        "weights with one byte that is another",
        lambda models: flip(unlinked(models / "dit_stage_1" / "1" / "dit.safetensors")),
    ),
]


@pytest.mark.parametrize(("number", "what", "spoil"), SPOILT, ids=lambda value: str(value)[:20])
def test_what_is_spoilt_is_never_served(
    number: str, what: str, spoil: Callable[[Path], None], tmp_path: Path, tell: Tell
) -> None:
    """It started, said that it was ready, and drew something else."""
    words = refused_start(tmp_path, spoil)
    tell(Row.of_words(number, what, words))


def test_who_talks_is_not_cut_off_by_an_end_of_the_server(tmp_path: Path, tell: Tell) -> None:
    """SIGTERM under load: as `make drain` does it."""
    with scene(tmp_path) as made:
        talks = made.talks()
        for talk in talks:
            talk.wait_for(4)
        command = [sys.executable, "-m", "deploy.server", "--log-dir", str(made.log_dir), "drain"]
        began = time.monotonic()
        draining = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        red = threading.Event()
        while not red.is_set() and time.monotonic() - began < 5:
            if why_not_ready(made.ports, read_key(made.log_dir)):
                red.set()
        red_s = time.monotonic() - began
        assert all(talk.join(60) for talk in talks)
        talked_s = time.monotonic() - began
        _, said = draining.communicate(timeout=60)
        took_s = time.monotonic() - began
    assert draining.returncode == 0, said
    assert [talk.error for talk in talks] == ["", ""]
    assert [talk.checksums for talk in talks] == made.wanted
    gap_s = max(talk.gap_s() for talk in talks)
    tell(
        Row(
            number="20",
            what="the server is ended under load (`make drain`)",
            maker=f"exit code 0, {took_s - talked_s:.1f} s behind the last session's end",
            talks=f"came to their end, frames equal, longest gap {gap_s:.2f} s",
            recovery="—",
            health=f"red after {red_s:.2f} s",
        )
    )
