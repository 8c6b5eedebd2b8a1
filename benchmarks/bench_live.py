"""How soon does a face answer, and how soon is it silent, on the viewer's clock?

The demo preset behind the real server on this machine: a live session with bursts of speech at
random moments and interruptions, its pauses filled by the idle face; beside it the naive way, sound
sent on at real time and frames shown 0.8 s behind it. Mouths are read from the pixels, by the judge
of the drawn world, which knows the example portrait's character.

    python -m benchmarks.bench_live
    python -m benchmarks.bench_live --seconds 20 --bursts 5 --stops 2

The last line is one JSON object.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.live_talks import Burst, Seen, live, naive, script
from benchmarks.report import machine, percentiles, table
from deploy.server.local import LocalServer
from examples.make_examples import FACES
from export.commands import failing_in_words
from live_avatar_client import AvatarError, read_audio
from live_avatar_client.protocol import FPS, Array
from train.evaluate.metrics_motion import CLOSED, best_lag, lag_curve
from train.world.clips import take
from train.world.lips import mouth_curve
from train.world.measure import find_pose, read_mouth
from train.world.motion import Pose

WARM_OPENINGS, WINDOW_S, PIECE, POSE_EVERY = 5, 1.2, 125, 5
IMAGE = Path("examples/portrait.png")


def openings(pictures: Sequence[Array]) -> Array:
    """float32 [N]: how open the mouth is in each picture of the example portrait's character."""
    frames = np.stack(pictures)
    who = take(FACES["portrait"], 1, frames.shape[1], "test", kind="silence")
    found = []
    for begin in range(0, len(frames), PIECE):
        piece = frames[begin : begin + PIECE]
        at = np.arange(0, len(piece), POSE_EVERY)
        sparse = find_pose(piece[at], who.identity, who.mood)
        pose = Pose(**{
            f.name: np.interp(np.arange(len(piece)), at, getattr(sparse, f.name)).astype(np.float32)
            for f in fields(Pose)
        })  # fmt: skip
        found.append(read_mouth(piece, who.identity, who.mood, pose).mouth.opening)
    return np.concatenate(found)


def reactions(talk: Sequence[Burst], time_s: Array, opening: Array) -> dict[str, list[float]]:
    """Milliseconds from a burst's coming until the mouth is seen open, and from an interruption
    until it is seen closed and stays so; what does not happen within `WINDOW_S` counts as that."""
    onset, closing = [], []
    for burst in talk:
        after = (time_s >= burst.fed_s) & (time_s < burst.fed_s + WINDOW_S)
        is_open = time_s[after & (opening >= CLOSED)]
        onset.append(1e3 * (is_open[0] - burst.fed_s) if len(is_open) else 1e3 * WINDOW_S)
        if burst.stop_s is not None:
            after = (time_s >= burst.stopped_s) & (time_s < burst.stopped_s + WINDOW_S)
            is_open = time_s[after & (opening >= CLOSED)]
            last_s = is_open[-1] + 1 / FPS if len(is_open) else burst.stopped_s
            closing.append(1e3 * (last_s - burst.stopped_s))
    return {"onset_ms": onset, "closed_ms": closing}


def av_offsets_ms(sound: Array, opening: Array) -> dict[str, float]:
    """By how much the picture trails the sound (below 0: leads), from where the mouth that was seen
    resembles the one that the sound asks for most; and how that changes between the halves."""
    asked = mouth_curve(sound / np.float32(32768), len(opening)).opening
    at = np.arange(len(opening))
    halves = [best_lag(lag_curve(opening[part], asked, part)) for part in np.array_split(at, 2)]
    whole = best_lag(lag_curve(opening, asked, at))
    return {"av_offset_ms": 40 * whole, "av_drift_ms": 40 * (halves[1] - halves[0])}


def figures(talk: Sequence[Burst], seen: Seen) -> dict[str, Any]:
    """What a talk was like for its viewer."""
    num = min(len(seen.pictures), len(seen.sounds))
    opening = openings(seen.pictures[:num])
    spans = reactions(talk, np.array(seen.time_s[:num]), opening)
    found: dict[str, Any] = {name: percentiles(values) for name, values in spans.items()}
    found["raw_ms"] = {name: [round(float(v), 1) for v in vs] for name, vs in spans.items()}
    found |= av_offsets_ms(np.concatenate(seen.sounds[:num]), opening)
    found |= {"frames": num, "late": seen.late, "jitter_ms": percentiles(seen.jitter_ms)}
    if (counted := seen.statistics) is not None:
        found |= {n: getattr(counted, n) for n in ("held", "skipped", "made_again", "dropped")}
        found["ahead_ms_p50"] = round(1e3 * counted.ahead_s.p50, 1)
        found["lead_ms"] = round(1e3 * counted.lead_s, 1)
    return found


@failing_in_words(RuntimeError, AvatarError, ValueError)
def main(
    repository: Path = Path("build/model_repository"),
    audio: Path = Path("examples/speech.flac"),
    seconds: Annotated[float, typer.Option(min=8, help="of the live talk")] = 120.0,
    bursts: Annotated[int, typer.Option(min=2, help="of speech")] = 30,
    stops: Annotated[int, typer.Option(min=1, help="bursts that are interrupted")] = 10,
    naive_share: Annotated[float, typer.Option(min=0, max=1, help="of the talk")] = 1 / 3,
    lead_s: Annotated[float, typer.Option(help="least lead of a block")] = 0.4,
    seed: Annotated[int, typer.Option(help="of the talk")] = 0,
    rebind: Annotated[bool, typer.Option(help="blocks made again keep their first step")] = False,
    cuts: Annotated[bool, typer.Option(help="idle frames may be left out")] = True,
) -> None:
    """How soon does a face answer, and how soon is it silent, on the viewer's clock?"""
    speech = np.rint(np.concatenate(list(read_audio(audio))) * 32767).astype(np.int16)
    talk = script(speech, seconds, bursts, stops, seed)
    short = max(2, round(bursts * naive_share))
    other = script(speech, short * seconds / bursts, short, max(1, stops * short // bursts), seed)
    with LocalServer(repository, log_dir=Path("build/bench_live_log")) as server:
        url = server.grpc_url
        firsts = [
            asyncio.run(live(url, IMAGE, [], 0.0, lead_s)).first_frame_s
            for _ in range(1 + WARM_OPENINGS)
        ]
        print(f"first frame: {', '.join(f'{1e3 * s:.0f}' for s in firsts)} ms", file=sys.stderr)
        options = {"rebind": True} if rebind else None
        seen = {"live": asyncio.run(live(url, IMAGE, talk, seconds, lead_s, options, cuts))}
        if naive_share:
            seen["naive"] = naive(url, IMAGE, other, short * seconds / bursts)
    report = {"benchmark": "live", **machine(), "seconds": seconds, "bursts": bursts}
    report |= {"rebind": rebind, "cuts": cuts}
    report |= {"first_frame_cold_ms": round(1e3 * firsts[0], 1)}
    report |= {"first_frame_warm_ms": round(1e3 * float(np.median(firsts[1:])), 1)}
    found = {name: figures(talk if name == "live" else other, one) for name, one in seen.items()}
    names = ("onset_ms", "closed_ms", "jitter_ms")
    rows = [[f"{n} {p}", *(f[n][p] for f in found.values())] for n in names for p in ("p50", "p95")]
    counted = ("av_offset_ms", "av_drift_ms", "frames", "late", "held", "skipped", "made_again")
    rows += [[n, *(f.get(n, "") for f in found.values())] for n in counted]
    print(table(["figure", *found], rows))
    print(json.dumps(report | found))


if __name__ == "__main__":
    typer.run(main)
