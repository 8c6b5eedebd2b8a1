"""A report as one HTML page that needs nothing else."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from benchmarks.audit.comparing import Comparison
from benchmarks.audit.figures import figures
from benchmarks.audit.parts import ELSEWHERE
from benchmarks.audit.plots import PLOTS, NotMeasuredError
from benchmarks.audit.record import results

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em;
  color: #222; background: #fff; }
table { border-collapse: collapse; margin: 1em 0; }
td, th { padding: .15em .8em .15em 0; text-align: left; border-bottom: 1px solid #ddd;
  overflow-wrap: anywhere; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
svg { max-width: 100%; height: auto; }
.missing { color: #8a3b00; background: #fff3e6; padding: .4em .8em; }
.better { color: #14663d; } .worse { color: #a32020; }
code { font-size: 90%; overflow-wrap: anywhere; }
"""


def page(report: dict[str, Any], comparison: Comparison | None = None) -> str:
    """The whole text. Of what was not measured it gives the reason."""
    title = f"Report of {report['date']}, commit {report['commit']}"
    found = {name: figures(results(part)) for name, part in report["parts"].items()}
    found = {name: seen for name, seen in found.items() if seen}
    drawn = (_plot(name, draw, report, found) for name, draw in PLOTS.items())
    body = [
        f"<h1>{escape(title)}</h1>",
        *_head(report),
        *(_comparison(comparison) if comparison else ()),
        "<h2>Pictures</h2>",
        "<p>Points are medians of all runs, bars go from the lowest to the highest.</p>",
        *drawn,
        *(_missing(name, reason) for name, reason in ELSEWHERE.items()),
        "<h2>Figures</h2>",
        "<p>The median of all runs, and in brackets the lowest and the highest. Without brackets: "
        "measured once, its spread is not measured. docs/metrics.md says what the words mean.</p>",
        *(_part(name, part, report["commit"]) for name, part in report["parts"].items()),
        "<h2>Files</h2>",
        table(("served file", "sha256"), report["artifacts"].items()),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
        f'</title><link rel="icon" href="data:,"><style>{_STYLE}</style></head>\n<body>\n'
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Cells are escaped; those behind the first are numbers where they begin like one."""
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    for row in rows:
        cells = [str(cell) for cell in row]
        marked = (f"<td{_kind(cell)}>{escape(cell)}</td>" for cell in cells)
        lines.append("<tr>" + "".join(marked) + "</tr>")
    return "<table>" + "\n".join(lines) + "</table>"


def _kind(cell: str) -> str:
    if cell in ("better", "worse"):
        return f' class="{cell}"'
    is_number = cell[:1].isdigit() or (cell[:1] == "-" and cell[1:2].isdigit())
    return ' class="number"' if is_number and len(cell) < 60 else ""


def _missing(name: str, reason: str) -> str:
    return f'<h3>{escape(name)}</h3><p class="missing">Not measured. {escape(reason)}</p>'


def _head(report: dict[str, Any]) -> list[str]:
    rows = [*report["machine"].items(), *report["versions"].items(), *report["preset"].items()]
    said = []
    if report["sizes"] != "full":
        said.append(
            '<p class="missing">Small sizes: this page shows that everything runs. Its figures are '
            "of few blocks and not to be quoted.</p>"
        )
    return [*said, table(("where and with what", ""), rows)]


def _comparison(found: Comparison) -> list[str]:
    rows = [
        (move.part, move.path, move.old.text(), move.new.text(), f"× {move.factor:.3g}", move.word)
        for move in found.moves
    ]
    lines = ["<h2>What moved beyond noise</h2>"]
    lines += [f"<p>{escape(remark)}</p>" for remark in found.remarks]
    if rows:
        lines.append(table(("part", "figure", "earlier", "now", "", ""), rows))
    within = f"{found.within} figures stayed within noise."
    return [*lines, f"<p>{len(rows)} figures moved. {within} {found.unjudged} cannot be judged: "
            "one of the reports measured them once.</p>"]  # fmt: skip


def _plot(name: str, draw: Any, report: dict[str, Any], found: Any) -> str:
    try:
        picture = draw(report, found)
    except NotMeasuredError as missing:
        return _missing(name, str(missing))
    what = (draw.__doc__ or "").splitlines()[0]
    return f"<h3>{escape(name)}</h3><p>{escape(what)}</p>\n<figure>{picture}</figure>"


def _part(name: str, part: dict[str, Any], commit: str) -> str:
    if part["not_measured"]:
        return _missing(name, part["not_measured"])
    seen = figures(results(part))
    command = f"python -m {part['module']} {part['options']}".strip()
    commits = ", ".join({run.get("commit", commit) for run in results(part)} - {commit})
    of = f", of commit {escape(commits)}" if commits else ""
    took = " and ".join(f"{run['seconds']:g}" for run in part["runs"])
    rows = [(path, figure.text()) for path, figure in seen.items()]
    return (
        f"<h3>{escape(name)}</h3><p>{escape(part['question'])}<br><code>{escape(command)}</code>, "
        f"{len(part['runs'])} run(s) of {took} s{of}</p>{table(('figure', ''), rows)}"
    )
