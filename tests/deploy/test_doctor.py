"""The doctor: every finding names a fix, and nothing it cannot see makes it fall over."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploy import doctor
from deploy.checkout import REPO
from deploy.doctor import (
    NOTE,
    OK,
    PROBLEM,
    Run,
    check_bindings,
    check_driver,
    check_peers,
    check_plans,
    check_tensorrt,
    examine,
    read_gpus,
    report,
)

SMI = """0, NVIDIA H100 80GB HBM3, 81559, 9.0, 580.65.06
1, NVIDIA H100 80GB HBM3, 81559, 9.0, 580.65.06
"""
TOPOLOGY = """ \tGPU0\tGPU1
 GPU0\tX\tOK
 GPU1\tOK\tX
"""


def machine(smi: str = SMI) -> Run:
    """A machine whose nvidia-smi answers with `smi`."""

    def run(command: Sequence[str]) -> str | None:
        return TOPOLOGY if "topo" in command else smi

    return run


def absent(command: Sequence[str]) -> str | None:
    return None


def test_a_machine_without_a_gpu_is_reported_and_not_a_problem(tmp_path: Path) -> None:
    """Who serves the demo on a laptop would be told that something is wrong."""
    findings = examine([], tmp_path, absent)
    assert findings[0].state == NOTE
    assert "configs/cpu.pbtxt" in findings[0].text
    assert not any(f.state == PROBLEM for f in findings if f.what in ("GPUs", "TensorRT"))


def test_gpus_are_listed_with_memory_and_architecture() -> None:
    """The plans depend on the architecture, the sessions on the memory."""
    gpus = read_gpus(machine())
    findings = check_driver(gpus)
    assert [f.state for f in findings] == [OK] * 3
    assert findings[1].text == "NVIDIA H100 80GB HBM3, 80 GiB, sm 9.0"
    assert check_peers(gpus, machine())[0].text.startswith("2 of 2")


@pytest.mark.parametrize("text", ["", "garbage", "No devices were found", "0, a, b"])
def test_unexpected_words_of_nvidia_smi_are_no_gpu(text: str) -> None:
    """A traceback is no diagnosis."""
    assert read_gpus(machine(text)) == []


def test_an_old_driver_is_a_problem_with_a_fix() -> None:
    """The container starts and every CUDA call fails."""
    driver = check_driver(read_gpus(machine(SMI.replace("580.65", "535.10"))))[0]
    assert driver.state == PROBLEM
    assert "535.10.06, wanted 580" in driver.text
    assert driver.fix


def test_gpus_of_two_kinds_are_a_problem() -> None:
    """One set of plans loads on one kind."""
    mixed = SMI.replace("1, NVIDIA H100 80GB HBM3", "1, NVIDIA L4")
    findings = check_driver(read_gpus(machine(mixed)))
    assert findings[-1].state == PROBLEM
    assert "CUDA_VISIBLE_DEVICES" in findings[-1].fix


@pytest.mark.parametrize(
    ("version", "state"),
    [((11, 4, 0), OK), ((10, 9, 0), PROBLEM), (None, PROBLEM)],
)
def test_tensorrt_must_be_new_enough(version: tuple[int, int, int] | None, state: str) -> None:
    """Strong typing and cache updates are of TensorRT 11."""
    assert check_tensorrt(version, has_gpu=True).state == state


@pytest.mark.parametrize(("version", "state"), [("2.75.0\n", OK), ("2.60.0", PROBLEM)])
def test_triton_must_be_new_enough(version: str, state: str, tmp_path: Path) -> None:
    """Older ones lose streams in silence."""
    assert doctor.check_triton(version, True, tmp_path / "none").state == state


def test_a_full_disk_and_a_small_shm_are_problems(tmp_path: Path) -> None:
    """A container's default of 64 MB lets the server start and fail later."""
    assert doctor.check_disk(tmp_path, wanted_gb=1e9).state == PROBLEM
    small = doctor.check_shm(tmp_path, wanted_mb=10**9)
    assert "--shm-size" in small.fix
    assert doctor.check_shm(tmp_path / "none").state == PROBLEM


def test_too_little_memory_is_a_problem(tmp_path: Path) -> None:
    """The kernel ends a process without a word; streamed weights of 14B are 24 GB a stage."""
    meminfo = tmp_path / "meminfo"
    assert doctor.check_memory(tmp_path, meminfo).state == NOTE
    meminfo.write_text("MemTotal: 65000000 kB\nMemAvailable:   16000000 kB\n")
    found = doctor.check_memory(tmp_path, meminfo)
    assert (found.state, found.text) == (OK, "16 GB free")
    for name, streams in (("dit_text", True), ("dit_step", False)):
        entry = {"weights_bytes": 24_000_000_000, "streams_weights": streams}
        (tmp_path / f"{name}.manifest.json").write_text(json.dumps(entry))
    found = doctor.check_memory(tmp_path, meminfo)
    assert found.text == "16 GB free, wanted 28: 24 for streamed weights"
    assert (found.state, "--stream-weights" in found.fix) == (PROBLEM, True)


def test_a_taken_port_is_a_problem_and_a_free_one_is_not() -> None:
    """Triton's own words for this come after a minute of loading."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert doctor.check_port(port).state == PROBLEM
    assert doctor.check_port(port).state == OK


def test_plans_of_another_gpu_are_a_problem(tmp_path: Path) -> None:
    """They refuse to load, after the server has started."""
    entry = {"machine": {"gpu": "NVIDIA L4", "compute_capability": "8.9"}}
    (tmp_path / "dit_step.manifest.json").write_text(json.dumps(entry))
    (finding,) = check_plans(tmp_path, read_gpus(machine()))
    assert finding.state == PROBLEM
    assert "NVIDIA L4, sm 8.9; here: NVIDIA H100" in finding.text
    assert check_plans(tmp_path, [])[0].state == NOTE


def test_a_gpu_without_plans_or_bindings_is_told(tmp_path: Path) -> None:
    """The server would start, and every stage refuse to load."""
    (finding,) = check_plans(tmp_path, read_gpus(machine()))
    assert (finding.state, finding.fix) == (NOTE, "make engines")
    names = [["json"], ["no_such_module", "json"], ["no_such_package.runtime"]]
    here, renamed, missing = check_bindings(names, has_gpu=True)
    assert (here.state, renamed.state, missing.state) == (OK, OK, PROBLEM)
    assert renamed.what == "module no_such_module"
    assert "deploy/Dockerfile" in missing.fix
    assert check_bindings(names, has_gpu=False)[2].state == NOTE


def test_every_subject_is_in_the_report(tmp_path: Path) -> None:
    """What the report leaves out, an operator takes for fine."""
    found = {finding.what for finding in examine([8001], tmp_path, machine())}
    assert found >= {"driver", "GPU 0", "GPU 1", "peer access", "TensorRT", "Triton", "plans"}
    assert found >= {"module tensorrt", "module cuda.bindings.runtime"}
    assert found >= {"disk", "memory", "shared memory", "port 8001"}


def test_every_problem_names_a_fix(tmp_path: Path) -> None:
    """That is what the report is for."""
    findings = examine([], tmp_path, machine(SMI.replace("580.65", "1.0")))
    assert all(finding.fix for finding in findings if finding.state == PROBLEM)
    assert "-> " in report(findings)


def test_it_runs_here() -> None:
    """Before anything is installed: with nothing but the interpreter."""
    command = [sys.executable, "-I", "-c"]
    code = f"import sys; sys.path.insert(0, {str(REPO)!r}); from deploy.doctor import main"
    done = subprocess.run(
        [*command, f"{code}; sys.argv[1:] = ['--ports', '0']; sys.exit(main())"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert done.returncode in (0, 1), done.stderr
    assert "shared memory" in done.stdout
