"""One command for every figure: measures all, writes a file and a page, says what moved.

    python -m benchmarks.audit
    python -m benchmarks.audit --quick --part demo --part load
    python -m benchmarks.audit --against benchmarks/results/2026-11-29-1234567.json
    python -m benchmarks.audit --page-of benchmarks/results/2026-11-29-1234567.json --readme

The last line is one JSON object: the paths of both files, and what was not measured.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.audit import record
from benchmarks.audit.comparing import Comparison, compare
from benchmarks.audit.parts import GROWTH, NAMES, PARTS, Part, part_named
from benchmarks.audit.readme import README, write
from benchmarks.audit.running import Run, run
from benchmarks.report import table
from deploy.checkout import REPO
from deploy.outcome import say
from export.commands import failing_in_words

NOT_ASKED = "it was not asked for"


def measure(
    report: dict[str, Any], parts: list[Part], repository: Path, is_quick: bool, rounds: int
) -> None:
    """Run the parts in turns, and put into the report what came; one that failed is not run
    again."""
    runs: dict[str, list[Run]] = {part.name: [] for part in parts}
    for number in range(rounds):
        for part in parts:
            before = runs[part.name]
            if before and before[-1].result is None:
                continue
            say(f"round {number + 1} of {rounds}: {part.name} …")
            done = run(part.arguments(is_quick, repository), part.limit_s)
            before.append(done)
            say(f"  {done.seconds:g} s" + (f", not measured: {done.reason}" if done.reason else ""))
    for part in PARTS:
        asked = part.name in runs
        if not asked and part.name in report["parts"]:
            continue
        report["parts"][part.name] = record.part_record(
            part, is_quick, runs.get(part.name, ()), "" if asked else part.left_out or NOT_ASKED
        )


def tell(found: Comparison) -> None:
    """Print what moved."""
    rows = [(m.part, m.path, m.old.text(), m.new.text(), m.word) for m in found.moves]
    for remark in found.remarks:
        print(remark)
    if rows:
        print(table(["part", "figure", "earlier", "now", ""], rows))
    print(f"{len(rows)} moved, {found.within} within noise, {found.unjudged} not to be judged")


@failing_in_words(RuntimeError)
def main(
    quick: Annotated[
        bool, typer.Option("--quick", help="small sizes, one round: does everything run?")
    ] = False,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="runs of each part, in turns; 3, and 1 with --quick")
    ] = None,
    part: Annotated[
        list[str] | None, typer.Option(help=f"this one alone, may be repeated: {', '.join(NAMES)}")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="an earlier report's .json: say what moved")
    ] = None,
    growth: Annotated[
        Path | None,
        typer.Option(help="what python -m benchmarks.soak printed: it goes into the report"),
    ] = None,
    repository: Annotated[Path, typer.Option(help="what is served")] = (
        REPO / "build" / "model_repository"
    ),
    results: Annotated[Path, typer.Option(help="folder of the reports")] = (
        REPO / "benchmarks" / "results"
    ),
    into: Annotated[
        Path | None, typer.Option(help="an earlier report's .json: its parts are measured again")
    ] = None,
    page_of: Annotated[
        Path | None, typer.Option(help="measure nothing: write the page of this .json again")
    ] = None,
    readme: Annotated[
        bool, typer.Option("--readme", help="put the report's figures into README.md, too")
    ] = False,
) -> None:
    """Measure everything, and write a report: DATE-COMMIT.json and .html.

    Runs the benchmarks one after the other, each by its own command and
    in a process of its own. A part that fails is written down as not
    measured, with the reason, and the others go on. Three rounds, in
    turns, give every figure its spread. Do nothing else with the machine
    meanwhile: it takes about an hour.

    Does everything run? A few minutes; its figures mean nothing.
    python -m benchmarks.audit --quick

    One benchmark again, seven times?
    python -m benchmarks.audit --part demo --rounds 7

    Was one part disturbed? Measure it again, into the same report.
    python -m benchmarks.audit --part live --into benchmarks/results/NEW.json

    What has a change moved? Measure before, measure after.
    python -m benchmarks.audit --against benchmarks/results/OLD.json

    Put the figures of a report into README.md?
    python -m benchmarks.audit --page-of benchmarks/results/NEW.json --readme

    A figure has moved if the ranges of its runs lie apart, and with
    fewer than five runs by more than the ranges are wide.
    """
    from benchmarks.audit.page import page  # takes a second to import

    whole = [part for part in PARTS if not part.left_out]
    parts = [part_named(name) for name in part] if part else whole
    grown = record.soaked(growth) if growth else None
    earlier = record.load(against) if against else None
    if page_of:
        report, path = record.load(page_of), page_of
    else:
        report = record.head(repository, quick)
        if into:
            report = record.continued(record.load(into), report)
        measure(report, parts, repository, quick, rounds or (1 if quick else 3))
        if grown:
            report["parts"][GROWTH] = grown
        path = record.save(report, results, into)
    found = compare(earlier, report) if earlier else None
    html = path.with_suffix(".html")
    html.write_text(page(report, found))
    if readme:
        write(README, report, path)
    if found:
        tell(found)
    missing = {n: p["not_measured"] for n, p in report["parts"].items() if p["not_measured"]}
    print(json.dumps({"report": str(path), "page": str(html), "not_measured": missing}))


if __name__ == "__main__":
    typer.run(main)
