"""A plan in words and tables, and as one JSON object."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.planner.calibration import WITHIN, within
from benchmarks.planner.cluster import Demand, refusal_ratio, refused_by_chance, servers_for
from benchmarks.planner.deployment import Deployment, Forecast
from benchmarks.planner.published import calibrating, left_out
from benchmarks.report import table
from export.repository.memory import format_table

TERA, GB, MB = 1e12, 1e9, 1e6


def head(plan: Deployment) -> str:
    """What is planned."""
    c, gpu = plan.preset.pipeline, plan.gpu
    return (
        f"{plan.preset.name} at {c.height} × {c.width}, {c.num_steps} steps, {plan.precision}, "
        f"on {plan.gpus} × {gpu.name}: {plan.placement}"
    )


def costs(plan: Deployment) -> str:
    """What a block takes, part by part."""
    work = plan.work
    parts = {
        "a denoising step": work.step,
        "the step of block 0": work.first_step,
        "the sink, at START and before block 4": work.prefill,
        "VAE: frames of a block": work.decode,
        "VAE: warm-up, at START": work.warm_up,
        "VAE: the picture, at START": work.encode,
        "text encoder, at START": work.text,
    }
    rows = [
        [name, f"{w.flop / TERA:.2f}", f"{1e3 * plan.seconds(w):.0f}"] for name, w in parts.items()
    ]
    message = f"a message between stations is {plan.message_bytes / MB:.2f} MB"
    return "\n".join([table(["part", "TFLOP", "ms"], rows), message])


def figures(plan: Deployment, seen: Forecast, price: float) -> dict[str, Any]:
    """Numbers of the plan, named as in docs/metrics.md."""
    fps = plan.preset.pipeline.fps
    hourly = price * plan.gpus
    latency = seen.block_latency_s
    return {
        "fps": round(seen.fps, 2),
        "fps_denoising": round(seen.fps_denoising, 2),
        "realtime_factor": round(seen.fps / fps, 3),
        "first_frame_warm_s": round(seen.first_frame_s, 3),
        "block_latency_s": None if latency is None else [round(s, 3) for s in latency],
        "start_stall_s": round(seen.start_stall_s, 3),
        "bubble_ratio": round(seen.bubble_ratio, 3),
        "sessions_by_memory": seen.sessions_by_memory,
        "sessions_by_time": seen.sessions_by_time,
        "sessions": seen.sessions,
        "cost_per_hour": round(hourly, 2),
        "cost_per_hour_of_video": round(hourly * fps / seen.fps, 2),
        "cost_per_live_hour": round(hourly / seen.sessions, 2) if seen.sessions else None,
        "busiest": seen.busiest,
    }


def summary(found: Mapping[str, Any]) -> str:
    """The same for people."""
    latency, live = found["block_latency_s"], found["cost_per_live_hour"]
    onset = "falls behind real time" if latency is None else "{:.2f}, {:.2f} s".format(*latency)
    rows = [
        ["frames per second, VAE and messages inside", found["fps"]],
        ["frames per second, denoising alone", found["fps_denoising"]],
        ["real-time factor", found["realtime_factor"]],
        ["first frame, warm", f"{found['first_frame_warm_s']:.2f} s"],
        ["onset, the server's part: p50, p95", onset],
        ["wait in the first 12 blocks, or buffer", f"{found['start_stall_s']:.2f} s"],
        ["bubble ratio", f"{found['bubble_ratio']:.0%}"],
        [
            "sessions: by memory, by time",
            f"{found['sessions_by_memory']}, {found['sessions_by_time']}",
        ],
        ["cost of the server, an hour", f"${found['cost_per_hour']:.2f}"],
        ["cost of an hour of video, no idling", f"${found['cost_per_hour_of_video']:.2f}"],
        ["cost of a live hour, all places taken", "–" if live is None else f"${live:.2f}"],
        ["busiest", found["busiest"]],
    ]
    return "\n".join([table(["", "expected"], rows), limit(found)])


def limit(found: Mapping[str, Any]) -> str:
    """What keeps more sessions out."""
    by_memory, by_time = found["sessions_by_memory"], found["sessions_by_time"]
    if by_time == 0:
        return f"slower than real time: {found['busiest']} has too much to do for one session"
    if by_memory == 0:
        return "no session fits into the memory"
    if by_time <= by_memory:
        return f"time is the limit: {found['busiest']} would be late with {by_time + 1} sessions"
    return f"memory is the limit: there is time for {by_time} sessions"


def memory(plan: Deployment) -> str:
    """The table of `make gpu-plan`, without its times: the plan has its own."""
    return format_table(plan.memory())


def alternatives(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """What changes of one thing would do."""
    titles = [
        "change",
        "FPS",
        "first frame s",
        "sessions by memory",
        "by time",
        "$ per hour of video",
    ]
    sessions = ("sessions_by_memory", "sessions_by_time")
    keys = ("fps", "first_frame_warm_s", *sessions, "cost_per_hour_of_video")
    return table(titles, [[name, *(found[key] for key in keys)] for name, found in rows])


def cluster(
    demand: Demand, places: int, most_refused: float, hourly: float
) -> tuple[str, dict[str, Any]]:
    """Servers for a service level, and one more and less."""
    wanted = servers_for(demand, places, most_refused)
    rows, found = [], []
    for servers in range(max(wanted - 2, 1), wanted + 3):
        computed = refusal_ratio(demand.load, servers * places)
        busy = demand.load * (1 - computed) / (servers * places)
        chance = refused_by_chance(demand, servers * places)
        many = refused_by_chance(demand, servers * places, lengths="lognormal")
        cost = servers * hourly / (demand.load * (1 - computed))
        rows.append(
            [
                f"{servers} ◀" if servers == wanted else servers,
                servers * places,
                *(f"{share:.2%}" for share in (computed, chance, many)),
                f"{busy:.0%}",
                f"${cost:.2f}",
            ]
        )
        found.append(
            {"servers": servers, "refused": round(computed, 5), "simulated": round(chance, 5)}
        )
    titles = ["servers", "places", "refused", "simulated", "lognormal", "busy", "a session's hour"]
    text = (
        f"{demand.per_hour:g} sessions an hour of {demand.minutes:g} minutes are "
        f"{demand.load:.1f} at once; no more than {most_refused:.2%} refused takes {wanted} servers"
    )
    return "\n".join([text, table(titles, rows)]), {"wanted": wanted, "sizes": found}


def calibration() -> tuple[str, dict[str, Any]]:
    """Every published point beside its prediction."""
    rows = [
        [
            p.name,
            f"{p.value:g} {p.unit}",
            f"{p.predict(p.efficiency):.3g}",
            f"{p.error():+.1%}",
            "fitted" if p.calibrates else "left out",
            p.source,
        ]
        for p in (*calibrating(), *left_out())
    ]
    errors = [p.error() for p in left_out()]
    text = (
        f"{within(errors)} of {len(errors)} points that are left out lie within {WITHIN:.0%}; the "
        f"median error is {sorted(map(abs, errors))[len(errors) // 2]:.1%}, the largest "
        f"{max(errors, key=abs):+.1%}"
    )
    found = {p.name: round(p.error(), 4) for p in left_out()}
    return "\n".join(
        [table(["point", "published", "planned", "error", "", "source"], rows), text]
    ), found
