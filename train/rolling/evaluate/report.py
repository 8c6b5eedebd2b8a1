"""The report of an evaluation: one HTML file with all in it, and its contact sheets apart."""

import html
import io
import platform
import string
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from train.evaluate.gates import Gate, Results
from train.evaluate.metrics import LEVEL, bootstrap, by_face, mean
from train.evaluate.report_plots import encoded, forest
from train.evaluate.report_tables import differences, gate_table, image, metric_table, table, value
from train.rolling.evaluate.evaluation import Evaluation
from train.rolling.evaluate.gates import METRICS
from train.rolling.evaluate.report_plots import over_time, switches
from train.scenes.scene import CHOICES

PAGE = string.Template(Path(__file__).with_name("report.html").read_text())
SHOWN = ("words_seen", "words_shuffled", "motion", "flicker", "drift_300s", "drift_30s", "held",
         "switch_s")  # fmt: skip


def write_report(
    out: Path, evaluation: Evaluation, results: Results, judged: Mapping[str, Gate], *, quick: bool
) -> Path:
    """OUT/report.html and a contact sheet of each model in OUT/sheets; `quick`: with a warning."""
    parts = {
        "head": _head(evaluation, quick),
        "settings": [_settings(evaluation)],
        "gates": [gate_table(list(judged.values()), "prompts")],
        "figures": [metric_table(results, METRICS), image(forest(results, _shown(results)))],
        "words": [_words(results)],
        "curves": _curves(evaluation, results),
        "differences": differences(evaluation.pairs, results, METRICS),
        "pictures": _pictures(out / "sheets", evaluation),
    }
    shown = {name: "\n".join(lines) for name, lines in parts.items()}
    first = next(iter(evaluation.models), "the truth, for lack of a model")
    names = {
        "judged": html.escape(first),
        "level": f"{LEVEL:.0%}",
        "odds": f"{1 / (1 - LEVEL):.0f}",
    }
    path = out / "report.html"
    path.write_text(PAGE.substitute(shown, **names))
    return path


def _shown(results: Results) -> list:
    """Of the most telling metrics those that any model has."""
    return [m for m in METRICS if m.name in SHOWN
            and any(m.estimate(runs).known for runs in results.values())]  # fmt: skip


def _head(evaluation: Evaluation, quick: bool) -> Iterator[str]:
    wanted = evaluation.protocol
    yield (
        f"<p>{time.strftime('%Y-%m-%d %H:%M')}, {html.escape(platform.machine())}: "
        f"{wanted.prompts} prompts of split {wanted.split} × {wanted.seeds} seeds × "
        f"{max(wanted.horizons_s)} s.</p>"
    )
    if quick:
        yield "<p><b>Quick version:</b> few prompts, one seed, 30 s. Gates are only a hint.</p>"


def _settings(evaluation: Evaluation) -> str:
    rows = []
    for name, hours in evaluation.cpu_hours().items():
        model = evaluation.models.get(name)
        what = f"{model.path.name} under {model.rules}" if model else ""
        rows.append((html.escape(name), html.escape(what), f"{hours:.3f}"))
    return table(("streams", "network and rules", "CPU-hours"), rows)


def _words(results: Results) -> str:
    rows = []
    for name in CHOICES:
        found = [bootstrap(mean, [by_face(runs, f"seen_{name}")]) for runs in results.values()]
        rows.append((name.replace("_name", " colour").replace("_", " "), *map(value, found)))
    return table(("", *map(html.escape, results)), rows)


def _curves(evaluation: Evaluation, results: Results) -> Iterator[str]:
    streams = {
        name: [evaluation.store.curves(name, key) for key in runs]
        for name, runs in results.items() if runs
    }  # fmt: skip
    yield image(over_time(streams))
    changed = {
        setting.model: [evaluation.store.curves(setting.name, (each.number, 0))
                        for each in evaluation.asked]
        for setting in evaluation.settings() if setting.switch
    }  # fmt: skip
    yield image(switches(changed))


def _pictures(folder: Path, evaluation: Evaluation) -> Iterator[str]:
    folder.mkdir(exist_ok=True)
    for setting in evaluation.settings():
        paths = [evaluation.store.picture(setting.name, (each.number, 0))
                 for each in evaluation.asked]  # fmt: skip
        sheet = Image.fromarray(np.concatenate([np.asarray(Image.open(path)) for path in paths]))
        plain = setting.name.replace(", ", "_")
        sheet.save(folder / f"{plain}.png", optimize=True)
        buffer = io.BytesIO()
        sheet.save(buffer, format="jpeg", quality=85)
        yield f"<h3>{html.escape(setting.name)}</h3>"
        yield image(encoded(buffer.getvalue(), "jpeg"))
