"""The report of an evaluation: one HTML file with everything in it."""

import html
import platform
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from train.evaluate import report_plots
from train.evaluate.evaluation import Evaluation
from train.evaluate.gates import Gate, Results, compare, says
from train.evaluate.metrics import METRICS
from train.evaluate.settings import CAP, HUMAN, LONG, STUDENT, TEACHER, TEACHER_IN_4, TRUTH, Setting
from train.evaluate.statistics import LEVEL, Estimate

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; color: #222 }
table { border-collapse: collapse; margin: 1em 0; font-size: 13px }
td, th { border-bottom: 1px solid #ddd; padding: 3px 9px; text-align: left; vertical-align: top }
.passes, .better { color: #1c6b2a } .FAILS, .worse { color: #b3202c; font-weight: 600 }
.not, .does { color: #888 }
img { max-width: 100% } img.strip { image-rendering: pixelated; width: 100% }
small { color: #777; white-space: nowrap }
"""
STRIPS = 3
"""Faces shown of each setting that is shown."""
SHOWN = (CAP, STUDENT, TEACHER, TEACHER_IN_4, LONG)
METHOD = """
<p>A procedural world knows the truth: who is drawn, what is said, and how the mouth should move.
Pose and mouth are read from the generated pixels; colours, sharpness and identity are compared with
the character drawn in that pose with that mouth, leaving out eyes, brows and the rims of regions.
The setting <i>truth</i> is the renderer under the same measures: what it scores is their own error.
<i>vae</i> is true clips through the VAE and back: no model that works in its latents is expected to
do better.</p>
<p>Brackets are {level:.0%} bootstrap intervals over faces; seeds of a face are averaged first. A
verdict is "surely" only if the whole interval is on its side. Many metrics are compared for many
pairs, so about one in {odds:.0f} intervals misses by chance alone. Ratios are of means over faces.
The interval of the worst face is the range of its seeds.</p>
"""


def write_report(
    path: Path, evaluation: Evaluation, results: Results, judged: Sequence[Gate], *, quick: bool
) -> Path:
    body = [
        "<h1>Evaluation of the trained avatar</h1>",
        *_head(evaluation, quick),
        "<h2>Gates</h2>",
        _gate_table(judged),
        "<h2>All figures</h2>",
        *_figures(evaluation, results),
        "<h2>Differences</h2>",
        *_differences(evaluation, results),
        "<h2>Pictures</h2>",
        *_pictures(evaluation, results),
    ]
    page = f"<!doctype html><meta charset=utf-8><title>Evaluation</title><style>{STYLE}</style>"
    path.write_text(page + "\n".join(body) + "\n")
    return path


def _row(*cells: str, kind: str = "td") -> str:
    return "<tr>" + "".join(f"<{kind}>{cell}</{kind}>" for cell in cells) + "</tr>"


def _value(found: Estimate) -> str:
    if not found.known:
        return "<span class=not>–</span>"
    return f"{found.value:.3f} <small>[{found.low:.3f}, {found.high:.3f}]</small>"


def _head(evaluation: Evaluation, quick: bool) -> Iterator[str]:
    day = time.strftime("%Y-%m-%d %H:%M")
    yield f"<p>{day}, {html.escape(platform.processor() or platform.machine())}.</p>"
    if quick:
        yield (
            "<p><b>Quick version:</b> few faces, one seed, short clips. Intervals are wide, chance "
            "correlations are larger than at 60 s, and gates are only a hint.</p>"
        )
    yield METHOD.format(level=LEVEL, odds=1 / (1 - LEVEL))
    rows = [_row("setting", "what it is", "runs", kind="th")]
    for setting in evaluation.sweep.settings:
        reason = evaluation.missing.get(setting.name)
        state = f"not measured: {html.escape(reason)}" if reason else _amount(setting)
        rows.append(_row(setting.name, html.escape(setting.about), state))
    yield f"<table>{''.join(rows)}</table>"


def _amount(setting: Setting) -> str:
    part = "" if setting.piece_every == 1 else ", the start and 5 s of every 20 measured"
    return f"{setting.faces} faces × {setting.seeds} seeds × {setting.seconds} s{part}"


def _gate_table(judged: Sequence[Gate]) -> str:
    rows = [_row("gate", "wanted", "found", "faces", "verdict", kind="th")]
    for gate in judged:
        verdict = f"<span class={gate.verdict.split()[0].rstrip(',')}>{gate.verdict}</span>"
        count = str(gate.found.num_faces) if gate.found.num_faces else ""
        rows.append(_row(gate.name, gate.wanted, _value(gate.found), count, verdict))
    return f"<table>{''.join(rows)}</table>"


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
    rows = [_row("", *results, kind="th")]
    for metric in METRICS:
        found = [metric.estimate(runs) for runs in results.values()]
        if any(f.known for f in found):
            rows.append(_row(html.escape(metric.title), *map(_value, found)))
    return f"<table>{''.join(rows)}</table>"


def _curves(evaluation: Evaluation, name: str, results: Results) -> list:
    return [evaluation.store.curves(name, key) for key in results[name]]


def _differences(evaluation: Evaluation, results: Results) -> Iterator[str]:
    yield (
        "<p>How much worse the first is than the second over the same faces and seeds, as a share "
        "of the second's value (of metrics that are perfect near zero: of their gate or usual "
        "size). An interval on both sides of zero does not discriminate.</p>"
    )
    blind: dict[str, int] = {}
    count = 0
    for pair in evaluation.sweep.pairs:
        changes = {m: c for m, c in compare(results, pair).items() if c.known}
        if not changes:
            continue
        count += 1
        rows = [_row("metric", "worse by", "", kind="th")]
        for metric, change in changes.items():
            word = says(change)
            blind[metric] = blind.get(metric, 0) + (word == "does not discriminate")
            mark = f"<span class={word.split()[0]}>{word}</span>"
            rows.append(_row(html.escape(metric), _value(change), mark))
        names = f"{pair.one} against {pair.other}"
        yield f"<h3>{html.escape(pair.question)} <small>{names}</small></h3>"
        yield f"<table>{''.join(rows)}</table>"
    if count:
        never = [html.escape(metric) for metric, times in blind.items() if times == count]
        listed = "; ".join(never) or "–"
        yield f"<p>In none of these {count} comparisons discriminate: {listed}.</p>"
    else:
        yield "<p>No two settings that were to be compared are both measured.</p>"


def _pictures(evaluation: Evaluation, results: Results) -> Iterator[str]:
    yield "<p>Above as it should look in the pose that was read, below what was made.</p>"
    for name in (*SHOWN, HUMAN[0]):
        for key in list(results.get(name, {}))[:STRIPS]:
            png = evaluation.store.picture(name, key).read_bytes()
            yield f"<p>{name}, face {key[0]}, seed {key[1]}</p>"
            yield f'<img class=strip src="{report_plots.encoded(png)}">'


def _image(uri: str) -> str:
    return f'<p><img src="{uri}"></p>'
