"""The dashboard of an on-call, made from code.

    python -m deploy.monitoring.dashboard     writes dashboard.json, which Grafana imports

Each row answers one question. Needs what `make setup-dev` installs.
"""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from grafana_foundation_sdk.builders import dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef

from deploy.outcome import exit_code

FILE = Path(__file__).with_name("dashboard.json")
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH, HEIGHT = 8, 7  # of a panel, in Grafana's grid of 24 columns


class Line(NamedTuple):
    """What is drawn, and what it is called."""

    expression: str
    legend: str


class Panel(NamedTuple):
    """A picture of some lines over time."""

    title: str
    description: str
    unit: str  # as Grafana names it; "short" is a plain number
    lines: tuple[Line, ...]


def _quantiles(metric: str) -> tuple[Line, ...]:
    buckets = f"sum by (instance, model, le) (rate({metric}_bucket[5m]))"
    return tuple(
        Line(f"histogram_quantile({q / 100}, {buckets})", f"p{q} {{{{model}}}} {{{{instance}}}}")
        for q in (50, 95, 99)
    )


def _per_minute(metric: str, legend: str) -> Line:
    return Line(f"60 * rate({metric}[5m])", f"{legend} {{{{model}}}}")


WHERE = "{{model}} {{instance}}"
ROWS: dict[str, tuple[Panel, ...]] = {
    "Can people start?": (
        Panel(
            "Ready",
            "1 if a session would be served, as the supervisor finds.",
            "short",
            (Line("avatar_server_ready", "{{instance}}"),),
        ),
        Panel(
            "Sessions and places",
            "A server whose sessions reach its places refuses the next one.",
            "short",
            (
                Line("avatar_sessions", f"sessions {WHERE}"),
                Line("avatar_places", f"places {WHERE}"),
            ),
        ),
        Panel(
            "STARTs per minute",
            "Opened and refused ones.",
            "short",
            (
                _per_minute("avatar_sessions_started_total", "opened"),
                _per_minute("avatar_sessions_refused_total", "refused"),
            ),
        ),
        Panel(
            "START to first frame",
            "What a person waits for a face.",
            "s",
            _quantiles("avatar_first_frame_seconds"),
        ),
        Panel(
            "Ends per minute",
            "By END, or by an error; a client that went away counts as an error.",
            "short",
            (
                _per_minute("avatar_sessions_ended_total", "ended"),
                _per_minute("avatar_sessions_left_total", "left without a word"),
                _per_minute("avatar_sessions_failed_total", "failed"),
            ),
        ),
    ),
    "Are blocks in time?": (
        Panel(
            "Late blocks",
            "Share of the blocks for which a viewer had to wait.",
            "percentunit",
            (Line("avatar:blocks_late:ratio", WHERE),),
        ),
        Panel(
            "Sound to answer",
            "Of each block. A live avatar wants less than its length, 0.48 s.",
            "s",
            _quantiles("avatar_block_seconds"),
        ),
        Panel(
            "Video per second",
            "Frames that were answered. One live session is 25, or 16 for text to video.",
            "short",
            (Line("rate(avatar_frames_total[5m])", WHERE),),
        ),
        Panel(
            "Backlog",
            "Video that is due and not answered. A sender ahead of real time makes it, too.",
            "s",
            (Line("avatar_backlog_seconds", WHERE),),
        ),
        Panel(
            "Unread blocks",
            "Answered, and not acknowledged by clients that do: slow readers or slow networks.",
            "short",
            (Line("avatar_unread_blocks", WHERE),),
        ),
        Panel(
            "Interruptions per minute",
            "People who spoke while the avatar did.",
            "short",
            (_per_minute("avatar_interruptions_total", "interruptions"),),
        ),
        Panel(
            "Onset",
            "From sound after silence to its first block, in live sessions: how soon lips move.",
            "s",
            _quantiles("avatar_onset_seconds"),
        ),
        Panel(
            "Degraded sessions",
            "Live ones that have a denoising step less now, and how often one lost it in an hour.",
            "short",
            (
                Line("avatar_degraded_sessions", f"now {WHERE}"),
                Line("increase(avatar_degrades_total[1h])", f"times {WHERE}"),
            ),
        ),
    ),
    "Is it still the same person?": (
        Panel(
            "Drift",
            "Distance of the worst session from its first block; at 100 % it is too far.",
            "percentunit",
            (Line("avatar_drift / avatar_drift_limit", "{{distance}} {{instance}}"),),
        ),
        Panel(
            "Drifted sessions",
            "Open ones that are too far from their first block.",
            "short",
            (Line("avatar_sessions_drifted", WHERE),),
        ),
        Panel(
            "Drifts and re-anchorings",
            "In an hour.",
            "short",
            (
                Line("increase(avatar_drifts_total[1h])", f"drifts {WHERE}"),
                Line("increase(avatar_reanchors_total[1h])", f"re-anchored {WHERE}"),
            ),
        ),
    ),
    "Which stage is the bottleneck?": (
        Panel(
            "Busy",
            "Share of the time in which a station's model worked. The highest is the bottleneck.",
            "percentunit",
            (Line("avatar:station_busy:ratio", "{{station}} {{instance}}"),),
        ),
        Panel(
            "Bubbles",
            "Share of the time with blocks under way in which a station had none.",
            "percentunit",
            (Line("avatar:station_bubble:ratio", "{{station}} {{instance}}"),),
        ),
        Panel(
            "Queues",
            "Blocks that wait for a station. They grow in front of the bottleneck.",
            "short",
            (
                Line("avatar_station_queue", "{{station}} {{instance}}"),
                Line("avatar_blocks_in_flight", f"all under way {WHERE}"),
            ),
        ),
    ),
    "What healed itself?": (
        Panel(
            "Calls that last",
            "Age of the oldest call to each model. At 60 s its process is ended.",
            "s",
            (Line("avatar_call_seconds", "{{called}} {{instance}}"),),
        ),
        Panel(
            "Heartbeats",
            "Two a second from each public model; at none for 20 s its process is ended.",
            "short",
            (Line("rate(avatar_heartbeats_total[1m])", WHERE),),
        ),
        Panel(
            "Models that are up",
            "0 from a process's death until it is loaded anew.",
            "short",
            (Line("avatar_server_model_up", WHERE),),
        ),
        Panel(
            "Reloads and restarts",
            "In an hour: of models, and of the whole server.",
            "short",
            (
                Line("increase(avatar_server_model_reloads_total[1h])", f"reloads {WHERE}"),
                Line("increase(avatar_server_restarts_total[1h])", "restarts {{instance}}"),
            ),
        ),
        Panel(
            "Replays",
            "In an hour: sessions that were brought back at a model.",
            "short",
            (Line("increase(avatar_replays_total[1h])", "{{lost}} {{instance}}"),),
        ),
    ),
    "What fills up?": (
        Panel(
            "Caches",
            "Memory that open sessions have at each model, on its GPU if it has one.",
            "bytes",
            (Line("avatar_cache_bytes", WHERE),),
        ),
        Panel(
            "Kept for replays",
            "Memory of the public model's process.",
            "bytes",
            (Line("avatar_replay_bytes", WHERE),),
        ),
        Panel(
            "Failed calls per minute",
            "Triton's own count, of calls between models, too.",
            "short",
            (Line("60 * rate(nv_inference_request_failure[5m])", "{{model}} {{reason}}"),),
        ),
    ),
}


def _panel(panel: Panel) -> timeseries.Panel:
    built = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .min(0)
        .datasource(SOURCE)
        .span(WIDTH)
        .height(HEIGHT)
    )
    for number, line in enumerate(panel.lines):
        query = prometheus.Dataquery().expr(line.expression).legend_format(line.legend)
        built = built.with_target(query.ref_id(chr(ord("A") + number)))
    return built


def built() -> dict[str, Any]:
    """The dashboard, as Grafana imports it."""
    whole = (
        dashboard.Dashboard("Live Avatar")
        .uid("live-avatar")
        .tags(["live-avatar"])
        .refresh("10s")
        .time("now-1h", "now")
        .readonly()
        .with_variable(dashboard.DatasourceVariable("datasource").type("prometheus"))
    )
    for title, panels in ROWS.items():
        whole = whole.with_row(dashboard.Row(title))
        for panel in panels:
            whole = whole.with_panel(_panel(panel))
    made: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True).encode(whole.build()))
    return made


def main() -> int:
    FILE.write_text(json.dumps(built(), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
