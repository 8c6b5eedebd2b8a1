"""The tables of a report, as HTML."""

import html
from collections.abc import Iterable, Iterator, Sequence

from train.evaluate.gates import Gate, Results, compare, says
from train.evaluate.metrics import METRICS, Estimate, Metric
from train.evaluate.settings import Pair


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(cells: Sequence[str], kind: str) -> str:
        return "<tr>" + "".join(f"<{kind}>{cell}</{kind}>" for cell in cells) + "</tr>"

    return f"<table>{line(titles, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"


def value(found: Estimate) -> str:
    if not found.known:
        return "<span class=not>–</span>"
    return f"{found.value:.3f} <small>[{found.low:.3f}, {found.high:.3f}]</small>"


def gate_table(judged: Sequence[Gate], of: str = "faces") -> str:
    rows = []
    for gate in judged:
        verdict = f"<span class={gate.verdict.split()[0].rstrip(',')}>{gate.verdict}</span>"
        count = str(gate.found.num_faces) if gate.found.num_faces else ""
        rows.append((gate.name, gate.wanted, value(gate.found), count, verdict))
    return table(("gate", "wanted", "found", of, "verdict"), rows)


def metric_table(results: Results, metrics: Sequence[Metric] = METRICS) -> str:
    found = {m.title: [m.estimate(runs) for runs in results.values()] for m in metrics}
    known = {title: row for title, row in found.items() if any(f.known for f in row)}
    rows = [(html.escape(title), *map(value, row)) for title, row in known.items()]
    return table(("", *results), rows)


def differences(
    pairs: Iterable[Pair], results: Results, metrics: Sequence[Metric] = METRICS
) -> Iterator[str]:
    blind: dict[str, int] = {}
    count = 0
    for pair in pairs:
        found = compare(results, pair.one, pair.other, metrics)
        changes = {title: change for title, change in found.items() if change.known}
        if not changes:
            continue
        count += 1
        rows = []
        for metric, change in changes.items():
            word = says(change)
            blind[metric] = blind.get(metric, 0) + (word == "does not discriminate")
            mark = f"<span class={word.split()[0]}>{word}</span>"
            rows.append((html.escape(metric), value(change), mark))
        names = f"{pair.one} against {pair.other}"
        yield f"<h3>{html.escape(pair.question)} <small>{names}</small></h3>"
        yield table(("metric", "worse by", ""), rows)
    if count:
        never = [html.escape(metric) for metric, times in blind.items() if times == count]
        listed = "; ".join(never) or "–"
        yield f"<p>In none of these {count} comparisons discriminate: {listed}.</p>"
    else:
        yield "<p>No two settings that were to be compared are both measured.</p>"


def image(uri: str) -> str:
    return f'<p><img src="{uri}"></p>'
