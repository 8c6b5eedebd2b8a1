"""Sweeps of the evaluation: what is asked, kept, compared and reported."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from train.evaluate import __main__ as command
from train.evaluate import models
from train.evaluate.evaluation import Evaluation
from train.evaluate.gates import compare, gates
from train.evaluate.models import MissingFileError, Models
from train.evaluate.report import write_report
from train.evaluate.settings import FULL, QUICK, Pair, Setting, Sweep
from train.evaluate.sources import TruthSource

SPEECH = Path(__file__).parents[2] / "examples" / "speech.flac"


def tiny(about: str = "the renderer") -> Sweep:
    def setting(name: str, model: str, seeds: int = 1) -> Setting:
        return Setting(name=name, about=about, model=model, kind="given", seconds=1, faces=2,
                       seeds=seeds)  # fmt: skip

    return Sweep(
        settings=(
            setting("truth", "truth", 2),
            setting("student 4", "truth"),
            setting("teacher 40", "teacher"),
        ),
        pairs=(Pair(one="student 4", other="truth", question="Are they the same?"),),
        num_others=0,
    )


def test_an_evaluation_goes_on_where_it_stopped_and_reports_in_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of runs would be lost to a stop; a report with missing pictures cannot be sent."""
    given = Models(human=SPEECH)
    first = Evaluation(tiny(), given, tmp_path)
    results = first.run()
    assert set(results["truth"]) == {(f, s) for f in (0, 1) for s in (0, 1)}
    assert results["truth"][0, 0]["diversity"] > 0
    assert "--weights" in first.missing["teacher 40"]

    def refuse(*_: object) -> Iterator[np.ndarray]:
        raise AssertionError("a run that is stored was made again")

    monkeypatch.setattr(TruthSource, "generate", refuse)
    again = Evaluation(tiny(), given, tmp_path)
    assert again.run() == results

    judged = gates(results)
    page = write_report(tmp_path / "report.html", again, results, judged, quick=True).read_text()
    assert "not measured" in page
    assert "does not discriminate" in page
    assert page.count('src="data:image/png;base64,') == page.count("src=") > 5
    listed = json.loads(json.dumps(command.everything(tiny(), results, judged), allow_nan=False))
    assert listed["settings"]["truth"]["sync"]["value"] > 0.9
    assert listed["gates"]["lag, frames"]["passed"]
    assert not [name for name in listed["gates"] if "mood" in name], "teachers are told none"
    one = command.everything(tiny(), {"human": results["truth"]}, [])
    assert [list(one[part]) for part in ("settings", "human")] == [[], ["human"]]
    differences = compare(results, "student 4", "truth").values()
    assert all(c.value == 0 for c in differences if c.known)


def test_every_horizon_that_was_reached_is_told() -> None:
    """Whether a face is itself after ten minutes would only be in a plot."""
    runs = {(face, 0): {"margin_60s": 0.9, "margin_600s": 0.8 + face / 10, "drift_600s": 1.0}
            for face in range(2)}  # fmt: skip
    found = command.over_time(runs)
    assert list(found) == ["60 s", "600 s"]
    assert found["600 s"]["margin"]["value"] == pytest.approx(0.85)
    assert set(found["600 s"]) == {"margin", "drift"}


def test_figures_of_other_files_or_options_are_not_used_again(tmp_path: Path) -> None:
    """A better checkpoint would get the figures of the old one."""
    given = Models(weights=tmp_path)
    setting = next(s for s in FULL.settings if s.name == "vae")
    with pytest.raises(MissingFileError, match="not there"):
        given.fingerprint(setting, FULL)
    (tmp_path / "vae.safetensors").write_bytes(b"one")
    first = given.fingerprint(setting, FULL)
    assert first == given.fingerprint(setting, FULL)
    other = tmp_path / "other"
    other.mkdir()
    (other / "vae.safetensors").write_bytes(b"two")
    assert Models(weights=other).fingerprint(setting, FULL) != first
    for change in ({"num_others": 5}, {"split": "dev"}):
        assert given.fingerprint(setting, replace(FULL, **change)) != first


def test_code_that_has_moved_is_missed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Old figures would look valid whatever had changed in it."""
    for name in (*models.MEASURING, *models.ROLLING_OUT):
        assert models.digest(models.ROOT / name)
    truth = next(s for s in FULL.settings if s.name == "truth")
    (tmp_path / "empty").mkdir()
    for moved in ("train/evaluate/moved.py", str(tmp_path / "empty")):
        monkeypatch.setattr(models, "MEASURING", ("train/world", moved))
        with pytest.raises(FileNotFoundError):
            Models().fingerprint(truth, FULL)


def test_figures_of_rounded_products_are_not_taken_for_exact_ones(tmp_path: Path) -> None:
    """A stream in bfloat16 would be reported as what is served."""
    for name in ("vae", "audio_encoder", "text_encoder", "dit"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"some")
    exact, rounded = (
        Models(tmp_path, {"student": tmp_path / "dit.safetensors"}, products=products)
        for products in ("float32", "bfloat16")
    )
    student, vae = (next(s for s in FULL.settings if s.name == n) for n in ("student 4", "vae"))
    assert exact.fingerprint(student, FULL) != rounded.fingerprint(student, FULL)
    assert exact.fingerprint(vae, FULL) == rounded.fingerprint(vae, FULL)


@pytest.mark.parametrize(("student", "lost"), [(0.87, 0), (0.80, 1), (0.70, 1)])
def test_where_few_steps_cost_the_teacher_the_student_has_to_be_better(
    student: float, lost: int
) -> None:
    """A student that distillation has not helped would pass beside a teacher that is bad in 4."""

    def runs(sharpness: float) -> dict[tuple[int, int], dict[str, float]]:
        return {(face, 0): {"sharpness": sharpness, "sharpness_true": 1.0, "opening": 0.9}
                for face in range(4)}  # fmt: skip

    title = "metrics where the teacher's 40 steps surely beat its 4, and the student does not"
    measured = {"student 4": runs(student), "teacher 40": runs(0.9), "teacher 4": runs(0.8)}
    (gate,) = (g for g in gates(measured) if g.name == title)
    assert gate.found.value == lost
    assert gate.passed == (lost == 0)
    del measured["teacher 40"]
    (gate,) = (g for g in gates(measured) if g.name == title)
    assert gate.passed is None


@pytest.mark.parametrize("sweep", [FULL, QUICK])
def test_every_comparison_is_between_settings_of_equal_length(sweep: Sweep) -> None:
    """Drift and chance depend on the length."""
    settings = {s.name: s for s in sweep.settings}
    assert len(settings) == len(sweep.settings)
    for pair in sweep.pairs:
        if {pair.one, pair.other} <= set(settings):
            one, other = settings[pair.one], settings[pair.other]
            assert (one.seconds, one.kind) == (other.seconds, other.kind), pair
    with pytest.raises(ValueError, match="unknown setting 'window 9'"):
        sweep.chosen(["window 9"])


def test_a_sweep_can_be_made_smaller_but_not_larger() -> None:
    """An hour's evaluation for a look, or a look that became an hour."""
    small = FULL.resized(faces=9, seeds=1, seconds=15)
    for one, other in zip(FULL.settings, small.settings, strict=True):
        assert (other.faces, other.seeds) == (min(one.faces, 9), 1)
        assert other.seconds == min(one.seconds, 15)
    assert FULL.resized(faces=None) == FULL


def test_the_full_sweep_is_what_the_gates_ask_for() -> None:
    """24 unseen faces, 3 seeds, up to 600 s."""
    settings = {s.name: s for s in FULL.settings}
    for name in ("student 4", "teacher 40", "teacher 4"):
        assert (settings[name].faces, settings[name].seeds, settings[name].seconds) == (24, 3, 60)
    assert (settings["long"].faces, settings["long"].seconds) == (24, 600)
    for horizon in (60, 120, 600):  # the piece that ends there is measured
        assert (horizon // 5) % settings["long"].piece_every == 0
