"""The report of an evaluation: one HTML file with everything in it."""

import html
import platform
import string
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from train.evaluate import report_plots
from train.evaluate.evaluation import Evaluation
from train.evaluate.gates import Gate, Results
from train.evaluate.metrics import LEVEL
from train.evaluate.report_tables import differences, gate_table, image, metric_table, table
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
        "gates": [gate_table(judged)],
        "figures": _figures(evaluation, results),
        "differences": differences(evaluation.sweep.pairs, results),
        "pictures": _pictures(evaluation, results),
    }
    shown = {name: "\n".join(lines) for name, lines in parts.items()}
    path.write_text(PAGE.substitute(shown, level=f"{LEVEL:.0%}", odds=f"{1 / (1 - LEVEL):.0f}"))
    return path


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
    return table(("setting", "what it is", "runs"), rows)


def _figures(evaluation: Evaluation, results: Results) -> Iterator[str]:
    procedural = {n: r for n, r in results.items() if n not in HUMAN and r}
    if not procedural:
        yield "<p>Nothing was measured.</p>"
        return
    yield metric_table(procedural)
    yield image(report_plots.forest(procedural))
    main = [n for n in (TRUTH, CAP, STUDENT, TEACHER, TEACHER_IN_4) if procedural.get(n)]
    if main:
        curves = {name: _curves(evaluation, name, procedural) for name in main}
        yield image(report_plots.faces(procedural, main))
        yield image(report_plots.lags(curves))
        yield image(report_plots.mouths(curves))
    for name in (STUDENT, LONG):
        if procedural.get(name):
            yield image(report_plots.over_time(_curves(evaluation, name, procedural), name))
    human = {n: r for n, r in results.items() if n in HUMAN and r}
    if human:
        yield "<h3>A human voice</h3>"
        yield metric_table(human)


def _curves(evaluation: Evaluation, name: str, results: Results) -> list:
    return [evaluation.store.curves(name, key) for key in results[name]]


def _pictures(evaluation: Evaluation, results: Results) -> Iterator[str]:
    for name in (*SHOWN, HUMAN[0]):
        for key in list(results.get(name, {}))[:STRIPS]:
            png = evaluation.store.picture(name, key).read_bytes()
            yield f"<p>{name}, face {key[0]}, seed {key[1]}</p>"
            yield f'<img class=strip src="{report_plots.encoded(png)}">'
