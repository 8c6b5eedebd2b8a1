"""The script for a borrowed GPU, on a CPU: a machine that is lent for minutes leaves no time to
find out that it does not start."""

import contextlib
import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu_experiment import __main__ as experiment
from benchmarks.gpu_experiment.runner import Phase, environment, run
from tests.support.waiting import happens


def phase(name: str, module: str, deadline_s: float = 20) -> Phase:
    return Phase(name=name, title=name, module=module, deadline_s=deadline_s)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a phase's module; what it does stands in the body of its `measure`."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(name: str, body: str) -> Phase:
        text = "import os, sys, time\ndef measure(findings, is_miniature):\n    " + body
        (tmp_path / f"{name}.py").write_text(text)
        return phase(name, name, deadline_s=5)

    return write


def start(out: Path, *phases: Phase, options: tuple[str, ...] = ()) -> tuple[int, dict[str, Any]]:
    """Exit code, and phase -> line, as the file has them."""
    code = experiment.main(["--miniature", "--out", str(out), *options], phases)
    lines = json.loads((out / "gpu_miniature.json").read_text())
    return code, {line["phase"]: line for line in lines}


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, the file's lines, and what stood on stdout, of all phases."""
    pytest.importorskip("torch")
    out, said = tmp_path_factory.mktemp("out"), io.StringIO()
    with contextlib.redirect_stdout(said):
        code = experiment.main(["--miniature", "--out", str(out)])
    return code, json.loads((out / "gpu_miniature.json").read_text()), said.getvalue()


@pytest.mark.slow
def test_every_assertion_holds_in_miniature(miniature: Any) -> None:
    """The GPU must not be the first to run them: what fails there is then CUDA's doing."""
    code, lines, _ = miniature
    assert [line["phase"] for line in lines] == ["machine", *"ABCDEF"]
    assert [line["error"] for line in lines] == [None] * 7
    asserts = {line["phase"]: line["asserts"] for line in lines}
    assert [name for held in asserts.values() for name in held if not held[name]] == []
    assert len(asserts["A"]) == 10
    assert len(asserts["B"]) == 6
    assert code == 0


@pytest.mark.slow
def test_what_is_printed_is_what_is_kept(miniature: Any) -> None:
    """Of a machine that is gone one of the two may be all there is."""
    _, lines, said = miniature
    assert [json.loads(line) for line in said.splitlines()] == lines


@pytest.mark.slow
def test_what_a_cpu_cannot_measure_is_null_with_a_reason(miniature: Any) -> None:
    """A time of the stand-in would be taken for one of CUDA."""
    _, lines, _ = miniature
    for line in lines:
        empty = {name for name, value in line["figures"].items() if value is None}
        assert empty <= set(line["reasons"])
        graphs = {name for name in line["figures"] if "graph_ms" in name or "peak_bytes" in name}
        assert graphs <= empty
    figures = {line["phase"]: line["figures"] for line in lines}
    assert {"replay_us", "run_us", "capture_us"} <= {
        n for n, v in figures["A"].items() if v is None
    }
    assert figures["E"]["graph_instantiate_ms"] is None
    assert figures["C"]["eager_ms_2088_keys"]["p50"] > 0  # a CPU can measure that


@pytest.mark.long
def test_a_phase_that_hangs_is_ended_and_the_others_report(tmp_path: Path, module: Any) -> None:
    """A kernel that never ends would cost the whole lease; what it knew is kept."""
    hangs = module("hangs", "findings.figure('before', 3); time.sleep(600)")
    fine = module("fine", "findings.holds('true', True)")
    hangs = Phase(name="hangs", title="", module="hangs", deadline_s=1)
    code, lines = start(tmp_path, hangs, fine)
    assert code == 1
    assert lines["hangs"]["error"].startswith("not done after 1 s")
    assert lines["hangs"]["figures"] == {"before": 3}
    assert lines["hangs"]["seconds"] < 5
    assert lines["fine"]["ok"]


@pytest.mark.long
def test_what_a_hanging_phase_has_started_ends_with_it(tmp_path: Path, module: Any) -> None:
    """It would hold the GPU's memory, and the next phase finds none."""
    pid = tmp_path / "pid"
    script = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    body = f"import subprocess; subprocess.run([sys.executable, '-c', {script!r}])"
    module("starts", body)
    line = run(phase("starts", "starts", deadline_s=2), True, environment([], tmp_path))
    assert line["error"].startswith("not done")
    assert happens(lambda: is_gone(pid.read_text()), within_s=10)


def is_gone(pid: str) -> bool:
    """Whether a process has ended, if nobody has asked for its exit code yet, too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_phase_that_raises_or_dies_reports_its_words(tmp_path: Path, module: Any) -> None:
    """Nobody could ask the machine again."""
    raises = module("raises", "raise ValueError('the cache is 12 GB')")
    dies = module("dies", "print('CUDA error 700', flush=True); os.abort()")
    fine = module("fine", "findings.figure('x', 1)")
    code, lines = start(tmp_path, raises, dies, fine)
    assert code == 1
    assert lines["raises"]["error"] == "ValueError: the cache is 12 GB"
    assert lines["dies"]["error"].startswith("ended by SIGABRT")
    assert "CUDA error 700" in lines["dies"]["last_words"]
    assert "measure" in lines["raises"]["last_words"]  # where it was raised
    assert [lines[name]["ok"] for name in ("raises", "dies", "fine")] == [False, False, True]


def test_a_broken_assertion_is_an_exit_code(tmp_path: Path, module: Any) -> None:
    """A log of many lines is not read to its end."""
    body = "findings.check('bits', lambda: 1 == 2); findings.check('runs', lambda: 1 / 0)"
    code, lines = start(tmp_path, module("broken", body))
    assert code == 1
    assert lines["broken"]["error"] is None
    assert lines["broken"]["asserts"] == {"bits": False, "runs": False}
    assert lines["broken"]["reasons"] == {"runs": "ZeroDivisionError: division by zero"}
    assert start(tmp_path, module("held", "findings.check('bits', lambda: True)"))[0] == 0


def test_a_figure_that_cannot_be_had_has_a_reason(tmp_path: Path, module: Any) -> None:
    """An empty cell would be read as zero."""
    body = "with findings.trying('ms'): raise RuntimeError('no kernel')"
    code, lines = start(tmp_path, module("lacks", body))
    assert (code, lines["lacks"]["figures"]) == (0, {"ms": None})
    assert lines["lacks"]["reasons"] == {"ms": "RuntimeError: no kernel"}


def test_wheels_are_imported_without_being_installed(tmp_path: Path, module: Any) -> None:
    """A borrowed machine has no network."""
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "carried-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("carried/__init__.py", "WORD = 'here'")
    uses = module("uses", "import carried; findings.figure('word', carried.WORD)")
    _, lines = start(tmp_path, uses, options=("--wheels", str(tmp_path / "wheels")))
    assert lines["uses"]["figures"] == {"word": "here"}


def test_an_unknown_phase_or_an_empty_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lease would be spent on the wrong thing."""
    for options, words in (
        (["--phases", "A,Z"], "no phase Z, there are A, B, C"),
        (["--wheels", str(tmp_path)], "no wheels in"),
    ):
        with pytest.raises(SystemExit, match="2"):
            experiment.main(options)
        assert words in capsys.readouterr().err


def test_all_phases_fit_into_one_lease() -> None:
    """Nine minutes of a call of ten, the start of each process included."""
    deadlines = [each.deadline_s for each in (experiment.MACHINE, *experiment.PHASES)]
    assert sum(deadlines) < 9 * 60


@pytest.mark.slow
def test_without_a_gpu_every_phase_says_so(tmp_path: Path) -> None:
    """Not a traceback, and no file that looks like a GPU's."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    code = experiment.main(["--out", str(tmp_path), "--phases", "A"])
    lines = json.loads((tmp_path / "gpu_none.json").read_text())
    assert code == 1
    assert all(line["error"] for line in lines)
    assert str(sys.version_info[0]) in lines[0]["figures"]["python"]
