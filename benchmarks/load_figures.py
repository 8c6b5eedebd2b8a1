"""What a load test counts: sessions as their clients saw them, and the figures of a whole run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.report import percentiles
from live_avatar_client.protocol import FPS


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One session from START to its last block; seconds on any one clock of its run."""

    started_s: float
    blocks_s: Sequence[float]
    """Arrival of every block, in order."""
    num_frames: int
    answers_s: Sequence[float] = ()
    """Per request after START, where the client knows it: from sending to its first block."""


def figures(tracks: Sequence[Track], num_sessions: int) -> dict[str, Any]:
    """Throughput of all sessions together, from the first START to the last block; delays in ms.

    `realtime_factor` is per session: 1 is as fast as its viewer looks. Percentiles are None where
    nothing was seen. ValueError when no block arrived.
    """
    if not any(track.blocks_s for track in tracks):
        raise ValueError("not one block arrived, so there is nothing to count")
    blocks = sum(len(track.blocks_s) for track in tracks)
    frames = sum(track.num_frames for track in tracks)
    end_s = max(track.blocks_s[-1] for track in tracks if track.blocks_s)
    wall_s = end_s - min(track.started_s for track in tracks)
    intervals_s = [
        later - earlier
        for track in tracks
        for earlier, later in zip(track.blocks_s, track.blocks_s[1:], strict=False)
    ]
    return {
        "sequences": len(tracks),
        "blocks": blocks,
        "frames": frames,
        "wall_s": round(wall_s, 2),
        "blocks_per_s": round(blocks / wall_s, 3),
        "frames_per_s": round(frames / wall_s, 2),
        "realtime_factor": round(frames / wall_s / FPS / num_sessions, 3),
        "first_block_ms": _milliseconds(
            [track.blocks_s[0] - track.started_s for track in tracks if track.blocks_s]
        ),
        "answer_ms": _milliseconds([value for track in tracks for value in track.answers_s]),
        "block_interval_ms": _milliseconds(intervals_s),
    }


def _milliseconds(seconds: Sequence[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    return {"count": len(seconds), **percentiles([1e3 * value for value in seconds])}
