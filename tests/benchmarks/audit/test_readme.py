"""README's figures are those of the report that README names."""

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.audit import __main__ as command
from benchmarks.audit import record
from benchmarks.audit.parts import NAMES
from benchmarks.audit.readme import NO_REPORT, README, ROWS, block, disagreement, write
from tests.benchmarks.audit.reports import report

EMPTY = f"# A\n<!-- figures -->\n{NO_REPORT}<!-- /figures -->\nbehind\n"


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    (tmp_path / "README.md").write_text(EMPTY)
    return tmp_path / "README.md"


def put(readme: Path, found: dict[str, Any]) -> str:
    """README's text with the figures of a report that lies beside it."""
    write(readme, found, record.save(found, readme.parent / "benchmarks" / "results"))
    return readme.read_text()


def test_our_readme_agrees_with_the_report_that_it_names() -> None:
    """Figures that somebody wrote by hand, or of a report that is not there."""
    assert disagreement(README) == ""


def test_figures_come_from_the_report_and_nothing_else_changes(readme: Path) -> None:
    """A second report replaces those of the first one, whole."""
    once = put(readme, report())
    assert once.startswith("# A\n<!-- figures of benchmarks/results/2026-11-29-1234567.json -->\n")
    assert once.endswith("<!-- /figures -->\nbehind\n")
    assert "| frames per second, one session | 90 (89.1 to 90.9) |" in once
    assert "(benchmarks/results/2026-11-29-1234567.json) of 2026-11-29, commit 1234567: A," in once
    assert disagreement(readme) == ""
    twice = put(readme, report((2.0, 2.1, 1.9)))
    assert "| frames per second, one session | 45 (42.9 to 47.4) |" in twice
    assert "90 (89.1" not in twice
    assert disagreement(readme) == ""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("90 (89.1", "99 (89.1", "differ: python -m benchmarks.audit --page-of benchmarks/results"),
        ("1234567.json -->", "7654321.json -->", "7654321.json, which is not there"),
        (" of benchmarks/results/2026-11-29-1234567.json -->", " -->", "figures of no report"),
        ("<!-- /figures -->", "", "no markers"),
    ],
)
def test_a_readme_that_says_something_else_is_told(
    readme: Path, old: str, new: str, words: str
) -> None:
    """Each of these reads like a measurement."""
    readme.write_text(put(readme, report()).replace(old, new))
    assert words in disagreement(readme)


def test_what_was_not_measured_is_a_row_with_its_reason() -> None:
    """A row that is left out looks like a figure that nobody asked for."""
    reasons = dict.fromkeys(NAMES, "it ended with 1:\n<b> | " + 200 * "x")
    text = block(report(failed=reasons), "a.json")
    rows = text.split("|---|---|\n")[1].splitlines()
    assert len(rows) == len(ROWS)
    for row in rows:
        assert row.count("|") == 3
        assert "not measured: it ended with 1: &lt;b&gt; &#124; x" in row
    small = block(report() | {"sizes": "small"}, "a.json")
    assert "not to be quoted" in small
    assert "not to be quoted" not in text


def test_every_row_is_found_in_a_report_of_all_parts() -> None:
    """A figure that was renamed would be "not measured" from then on."""
    assert "not measured" not in block(report(), "a.json")


def test_the_command_writes_readme(readme: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without measuring; a report elsewhere is refused, for nobody could look it up."""
    app = typer.Typer()
    app.command()(command.main)
    monkeypatch.setattr(command, "README", readme)
    for folder, code in ((readme.parent / "results", 0), (readme.parent.parent / "else", 1)):
        readme.write_text(EMPTY)
        path = record.save(report(failed=dict.fromkeys(NAMES, "no luck")), folder)
        ended = CliRunner().invoke(app, ["--page-of", str(path), "--readme"])
        assert ended.exit_code == code
        assert (readme.read_text() == EMPTY) == bool(code)
    assert "where README's readers would find it" in ended.output
