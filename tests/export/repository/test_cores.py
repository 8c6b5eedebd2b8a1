"""The stages of a CPU: as many as its cores can run side by side, and no more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from export.repository.cores import num_cores, shared_out
from export.repository.pbtxt import parse_steps

REPO = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("num_steps", "cores", "steps", "threads"),
    [
        (4, 1, "0,1,2,3", 1),
        (4, 2, "0,1 2,3", 1),
        (4, 3, "0 1 2 3", 1),
        (4, 4, "0 1 2 3", 1),
        (4, 8, "0 1 2 3", 2),
        (3, 2, "0 1 2", 1),
        (1, 8, "0", 8),
    ],
)
def test_cores_are_shared_out_evenly(num_steps: int, cores: int, steps: str, threads: int) -> None:
    """Unequal stages wait for the largest; threads beyond the cores take turns."""
    shares = shared_out(num_steps, cores)
    assert (shares.text, shares.threads) == (steps, threads)
    assert parse_steps(shares.text, num_steps) == [list(stage) for stage in shares.steps]


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
def test_a_live_talk_has_all_cores_at_every_step(cores: int) -> None:
    """Who talks waits for one block, and not for many; and not for one that is given up."""
    shares = shared_out(4, cores, live=True)
    assert (shares.text, shares.threads) == ("0 1 2 3", cores)


@pytest.mark.parametrize(
    ("text", "wanted"), [("100000 100000", 1), ("150000 100000", 1), ("50000 100000", 1)]
)
def test_a_container_s_quota_counts(tmp_path: Path, text: str, wanted: int) -> None:
    """In a container of one core on a large machine every stage would fight for it."""
    quota = tmp_path / "cpu.max"
    quota.write_text(text)
    assert num_cores(quota) == wanted


def test_without_a_quota_the_process_s_cores_count(tmp_path: Path) -> None:
    """`max` is the word for no limit, and other systems have no such file."""
    quota = tmp_path / "cpu.max"
    assert num_cores(quota) == len(os.sched_getaffinity(0))
    quota.write_text("max 100000")
    assert num_cores(quota) == len(os.sched_getaffinity(0))


def assembled(tmp_path: Path, *options: str) -> tuple[list[str], str]:
    """The stages' steps and threads, and what was said, on one core."""
    one = str(min(os.sched_getaffinity(0)))
    command = ["taskset", "-c", one, sys.executable, "-m", "export.repository.assemble"]
    command += ["--artifacts", "artifacts/demo", "--out", str(tmp_path / "repository"), *options]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True)
    configs = sorted((tmp_path / "repository").glob("dit_stage_*/configs/cpu.pbtxt"))
    lines = [line for path in configs for line in path.read_text().splitlines()]
    said = [line.split('"')[1::2] for line in lines if line.startswith("parameters")]
    kept = [value for name, value in said if name in ("steps", "num_threads")]
    return kept, done.stderr


def test_the_command_takes_the_cores_that_it_has_and_says_so(tmp_path: Path) -> None:
    """Four stages on one core are four copies of the weights for nothing."""
    kept, said = assembled(tmp_path)
    assert kept == ["0,1,2,3", "1"]
    assert said.startswith('1 core: STEPS="0,1,2,3" with 1 thread each; ')


def test_live_threads_stay_awake_where_one_block_is_made_at_a_time(tmp_path: Path) -> None:
    """Threads of several stages would keep the cores from each other."""
    assembled(tmp_path, "--live", "--threads", "2")
    folder = tmp_path / "repository"
    text = (folder / "live_avatar" / "configs" / "cpu.pbtxt").read_text()
    assert 'key: "blocks_at_once" value { string_value: "1" }' in text
    for model in ("dit_stage_0", "vae_decoder"):
        text = (folder / model / "configs" / "cpu.pbtxt").read_text()
        assert 'key: "num_threads" value { string_value: "2" }' in text
        assert 'key: "spinning" value { string_value: "yes" }' in text
    assembled(tmp_path, "--threads", "2")
    text = (folder / "dit_stage_0" / "configs" / "cpu.pbtxt").read_text()
    assert 'key: "spinning" value { string_value: "no" }' in text


def test_what_is_named_is_taken(tmp_path: Path) -> None:
    """Who knows better is not corrected."""
    kept, said = assembled(tmp_path, "--steps", "0,1 2,3", "--threads", "3")
    assert kept == ["0,1", "3", "2,3", "3"]
    assert "core" not in said
