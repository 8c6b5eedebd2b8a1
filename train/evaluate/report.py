"""The report of an evaluation: one HTML file with everything in it."""

import html
import platform
import string
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from train.evaluate import report_plots
from train.evaluate.evaluation import Evaluation
from train.evaluate.gates import Gate, Results, compare, says
from train.evaluate.metrics import LEVEL, METRICS, Estimate
from train.evaluate.settings import CAP, HUMAN, LONG, STUDENT, TEACHER, TEACHER_IN_4, TRUTH

PAGE = string.Template(Path(__file__).with_name("report.html").read_text())
STRIPS = 3  # faces shown of each setting that is shown
SHOWN = (CAP, STUDENT, TEACHER, TEACHER_IN_4, LONG)


def write_report(
    path: Path, evaluation: Evaluation, results: Results, judged: Sequence[Gate], *, quick: bool
) -> Path:
    """Fill the page in; `quick`: with a warning."""
    parts = {
        "head": _head(quick),
        "settings": [_settings(evaluation)],
        "gates": [_gate_table(judged)],
        "figures": _figures(evaluation, results),
        "differences": _differences(evaluation, results),
        "pictures": _pictures(evaluation, results),
    }
    shown = {name: "\n".join(lines) for name, lines in parts.items()}
    path.write_text(PAGE.substitute(shown, level=f"{LEVEL:.0%}", odds=f"{1 / (1 - LEVEL):.0f}"))
    return path


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(cells: Sequence[str], kind: str) -> str:
        return "<tr>" + "".join(f"<{kind}>{cell}</{kind}>" for cell in cells) + "</tr>"

    return f"<table>{line(titles, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"


def _value(found: Estimate) -> str:
    if not found.known:
        return "<span class=not>–</span>"
    return f"{found.value:.3f} <small>[{found.low:.3f}, {found.high:.3f}]</small>"


def _head(quick: bool) -> Iterator[str]:
    day = time.strftime("%Y-%m-%d %H:%M")
    yield f"<p>{day}, {html.escape(platform.processor() or platform.machine())}.</p>"
    if quick:
        yield (
            "<p><b>Quick version:</b> few faces, one seed, short clips. Intervals are wide, chance "
            "correlations are larger than at 60 s, and gates are only a hint.</p>"
        )


def _settings(evaluation: Evaluation) -> str:
    rows = []
    for setting in evaluation.sweep.settings:
        reason = evaluation.missing.get(setting.name)
        part = "" if setting.piece_every == 1 else ", the start and 5 s of every 20 measured"
        amount = f"{setting.faces} faces × {setting.seeds} seeds × {setting.seconds} s{part}"
        state = f"not measured: {html.escape(reason)}" if reason else amount
        rows.append((setting.name, html.escape(setting.about), state))
    return _table(("setting", "what it is", "runs"), rows)


def _gate_table(judged: Sequence[Gate]) -> str:
    rows = []
    for gate in judged:
        verdict = f"<span class={gate.verdict.split()[0].rstrip(',')}>{gate.verdict}</span>"
        count = str(gate.found.num_faces) if gate.found.num_faces else ""
        rows.append((gate.name, gate.wanted, _value(gate.found), count, verdict))
    return _table(("gate", "wanted", "found", "faces", "verdict"), rows)


def _figures(evaluation: Evaluation, results: Results) -> Iterator[str]:
    procedural = {n: r for n, r in results.items() if n not in HUMAN and r}
    if not procedural:
        yield "<p>Nothing was measured.</p>"
        return
    yield _metric_table(procedural)
    yield _image(report_plots.forest(procedural))
    main = [n for n in (TRUTH, CAP, STUDENT, TEACHER, TEACHER_IN_4) if procedural.get(n)]
    if main:
        curves = {name: _curves(evaluation, name, procedural) for name in main}
        yield _image(report_plots.faces(procedural, main))
        yield _image(report_plots.lags(curves))
        yield _image(report_plots.mouths(curves))
    for name in (STUDENT, LONG):
        if procedural.get(name):
            yield _image(report_plots.over_time(_curves(evaluation, name, procedural), name))
    human = {n: r for n, r in results.items() if n in HUMAN and r}
    if human:
        yield "<h3>A human voice</h3>"
        yield _metric_table(human)


def _metric_table(results: Results) -> str:
    found = {m.title: [m.estimate(runs) for runs in results.values()] for m in METRICS}
    known = {title: row for title, row in found.items() if any(f.known for f in row)}
    rows = [(html.escape(title), *map(_value, row)) for title, row in known.items()]
    return _table(("", *results), rows)


def _curves(evaluation: Evaluation, name: str, results: Results) -> list:
    return [evaluation.store.curves(name, key) for key in results[name]]


def _differences(evaluation: Evaluation, results: Results) -> Iterator[str]:
    blind: dict[str, int] = {}
    count = 0
    for pair in evaluation.sweep.pairs:
        changes = {m: c for m, c in compare(results, pair.one, pair.other).items() if c.known}
        if not changes:
            continue
        count += 1
        rows = []
        for metric, change in changes.items():
            word = says(change)
            blind[metric] = blind.get(metric, 0) + (word == "does not discriminate")
            mark = f"<span class={word.split()[0]}>{word}</span>"
            rows.append((html.escape(metric), _value(change), mark))
        names = f"{pair.one} against {pair.other}"
        yield f"<h3>{html.escape(pair.question)} <small>{names}</small></h3>"
        yield _table(("metric", "worse by", ""), rows)
    if count:
        never = [html.escape(metric) for metric, times in blind.items() if times == count]
        listed = "; ".join(never) or "–"
        yield f"<p>In none of these {count} comparisons discriminate: {listed}.</p>"
    else:
        yield "<p>No two settings that were to be compared are both measured.</p>"


def _pictures(evaluation: Evaluation, results: Results) -> Iterator[str]:
    for name in (*SHOWN, HUMAN[0]):
        for key in list(results.get(name, {}))[:STRIPS]:
            png = evaluation.store.picture(name, key).read_bytes()
            yield f"<p>{name}, face {key[0]}, seed {key[1]}</p>"
            yield f'<img class=strip src="{report_plots.encoded(png)}">'


def _image(uri: str) -> str:
    return f'<p><img src="{uri}"></p>'
