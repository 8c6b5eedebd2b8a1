"""The page of a report: whole, by itself, honest about what is missing; as a browser shows it."""

import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.audit.__main__ import main
from benchmarks.audit.comparing import compare
from benchmarks.audit.page import page
from benchmarks.audit.parts import ELSEWHERE, NAMES
from benchmarks.audit.plots import PLOTS
from benchmarks.audit.record import load, save
from tests.benchmarks.audit.reports import report

OPEN_ENDED = {"meta", "link", "br"}


class Elements(HTMLParser):
    """Fails at a tag that is not closed; collects ids, and what is fetched from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)
        assert self.tags == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids += [given["id"]] if "id" in given else []
        links = (given.get(name, "#") for name in ("src", "href", "xlink:href"))
        self.fetched += [link for link in links if not link.startswith(("#", "data:"))]
        if tag not in OPEN_ENDED:
            self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.tags.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in OPEN_ENDED:
            self.tags.pop()


@pytest.fixture(scope="module")
def whole() -> str:
    return page(report(), compare(report(), report((1.5, 1.51, 1.49))))


def test_the_page_is_whole_and_needs_nothing_else(whole: str) -> None:
    """It is sent by mail and opened without a network; two pictures with one id would mix."""
    found = Elements(whole)
    assert whole.count("<svg") == len(PLOTS)
    assert found.fetched == []
    assert "<script" not in whole
    assert len(found.ids) == len(set(found.ids))


def test_the_page_has_every_picture_part_and_move(whole: str) -> None:
    """A part that is forgotten here is measured for nothing."""
    headings = re.findall(r"<h3>(.*?)</h3>", whole)
    assert headings == [*map(_escaped, PLOTS), *map(_escaped, ELSEWHERE), *NAMES]
    assert re.search(r"<td>demo</td><td>fps</td>.*?× 0\.667.*?worse", whole)
    assert whole.count("Not measured.") == len(ELSEWHERE)


def _escaped(text: str) -> str:
    return text.replace("'", "&#x27;")


def test_what_failed_is_not_measured_with_its_reason() -> None:
    """An empty picture looks like a zero; and a reason may hold any sign."""
    text = page(report(failed=dict.fromkeys(NAMES, "it ended with 1: <b> & co")))
    Elements(text)
    assert "<svg" not in text
    assert text.count("Not measured.") == len(PLOTS) + len(ELSEWHERE) + len(NAMES)
    assert "<b>" not in text
    assert text.count("&lt;b&gt; &amp; co") >= len(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_one_missing_part_takes_nothing_else_with_it(name: str) -> None:
    """Half an hour of measuring would be lost with perf_analyzer's download."""
    text = page(report((1.0,), failed={name: "no luck"}))
    missing = 1 + (f"{name}: no luck" in text)
    assert text.count("Not measured.") == len(ELSEWHERE) + missing


def test_a_report_is_read_back_and_never_written_over(tmp_path: Path) -> None:
    """A second measurement of the same commit is a second sample."""
    first, second = save(report(), tmp_path), save(report(), tmp_path)
    assert [first.name, second.name] == ["2026-11-29-1234567.json", "2026-11-29-1234567-2.json"]
    assert load(first) == report()


@pytest.mark.parametrize("text", ["", "[]", '{"report": 1}', json.dumps(report() | {"report": 0})])
def test_a_file_that_is_no_report_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    """Before half an hour of measuring, not behind it."""
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"a\.json is no"):
        load(tmp_path / "a.json")


def test_the_page_of_an_old_report_is_written_again(tmp_path: Path) -> None:
    """The command, without measuring; its last line names both files."""
    import typer

    app = typer.Typer()
    app.command()(main)
    failed = {name: "no luck" for name in NAMES if name != "audio_context"}
    saved, other = save(report(failed=failed), tmp_path), save(report(failed=failed), tmp_path)
    ended = CliRunner().invoke(app, ["--page-of", str(saved), "--against", str(other)])
    assert ended.exit_code == 0, ended.output
    *_, moved, last = ended.stdout.splitlines()
    assert moved == "0 moved, 1 within noise, 0 not to be judged"
    html = saved.with_suffix(".html")
    assert json.loads(last) == {"report": str(saved), "page": str(html), "not_measured": failed}
    assert "What moved beyond noise" in html.read_text()


@pytest.fixture
def browser() -> Any:
    playwright = pytest.importorskip("playwright.sync_api", reason="say: make test-browser")
    if (chromium := shutil.which("chromium")) is None:
        pytest.skip("there is no browser: apt-get install chromium")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.slow
def test_a_browser_shows_every_picture_and_says_nothing(
    browser: Any, whole: str, tmp_path: Path
) -> None:
    """A parser forgives what a browser does not draw."""
    (tmp_path / "report.html").write_text(whole)
    window = browser.new_page(viewport={"width": 1200, "height": 900})
    said: list[str] = []
    window.on("console", lambda message: said.append(message.text))
    window.on("request", lambda request: said.append(request.url))
    window.goto(f"file://{tmp_path}/report.html")
    boxes = [drawing.bounding_box() for drawing in window.query_selector_all("svg")]
    assert len(boxes) == len(PLOTS)
    assert all(box["width"] > 800 and box["height"] > 150 for box in boxes)
    assert all(a["y"] + a["height"] <= b["y"] for a, b in itertools.pairwise(boxes))
    assert window.evaluate("document.documentElement.scrollWidth") <= 1200
    assert said == [f"file://{tmp_path}/report.html"]
