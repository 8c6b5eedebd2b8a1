"""Talks with the avatar that `bench_live` judges: what is said when, what a viewer saw and heard.

A talk is a burst of speech every few seconds, at a random moment, into a face that is silent; some
are interrupted. It is held with a live session, and the naive way: sound sent on as it would be
spoken, frames shown with a constant delay.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from live_avatar_client import LiveSession, Session
from live_avatar_client.live.statistics import LiveStatistics
from live_avatar_client.protocol import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, Array
from train.evaluate.metrics_motion import CLOSED
from train.world.lips import mouth_curve

NAIVE_DELAY_S = 0.8
SHORTEST_S, LONGEST_S = 1.0, 2.2  # of a burst
PROMPT = "a person talks to the camera"


@dataclass(slots=True, kw_only=True)
class Burst:
    """Speech, int16 [n], that comes at once; `at_s` and `stop_s`, when it is interrupted if it is,
    count from the talk's beginning, `fed_s` and `stopped_s` are when that happened."""

    at_s: float
    samples: Array
    stop_s: float | None
    fed_s: float = float("nan")
    stopped_s: float = float("nan")


@dataclass(kw_only=True)
class Seen:
    """Everything shown, by `time.monotonic()`: one picture and its sound for every moment."""

    time_s: list[float] = field(default_factory=list)
    pictures: list[Array] = field(default_factory=list)
    sounds: list[Array] = field(default_factory=list)  # int16 [640] each
    jitter_ms: list[float] = field(default_factory=list)
    """How far behind its moment a frame came; the naive way, a block."""
    first_frame_s: float = float("nan")
    late: int = 0
    statistics: LiveStatistics | None = None


def script(speech: Array, seconds: float, bursts: int, stops: int, seed: int) -> list[Burst]:
    """A talk: bursts of int16 `speech` that open the mouth with their first frames. Each has its
    part of the time, and ends before the next."""
    chance, each_s = np.random.default_rng(seed), seconds / bursts
    if each_s < LONGEST_S + 1.5:
        raise ValueError(f"{bursts} bursts need {bursts * (LONGEST_S + 1.5):.0f} s and more")
    stopped = set(chance.permutation(bursts)[:stops].tolist())
    opening = mouth_curve(speech / np.float32(32768)).opening
    starts = [k for k in range(1, len(opening) - round(LONGEST_S * FPS)) if _opens(opening, k)]
    talk = []
    for number in range(bursts):
        begin = int(chance.choice(starts)) * SAMPLES_PER_FRAME
        length_s = float(chance.uniform(SHORTEST_S, LONGEST_S))
        at_s = number * each_s + float(chance.uniform(0, each_s - LONGEST_S - 1.0))
        stop_s = at_s + float(chance.uniform(0.6, 1.0)) if number in stopped else None
        samples = speech[begin : begin + int(length_s * SAMPLE_RATE)]
        talk.append(Burst(at_s=at_s, samples=samples, stop_s=stop_s))
    return talk


def _opens(opening: Array, frame: int) -> bool:
    """Whether a mouth that is closed before this frame is open in it and in the next."""
    return bool(opening[frame - 1] < CLOSED and (opening[frame : frame + 2] >= CLOSED).all())


async def live(
    url: str,
    image: Path,
    talk: list[Burst],
    seconds: float,
    lead_s: float,
    options: dict[str, bool] | None = None,
    cuts: bool = True,
) -> Seen:
    """Hold the talk with a live session."""
    seen = Seen()
    face = LiveSession(
        url=url, image=image, prompt=PROMPT, lead_s=lead_s, options=options, cuts=cuts
    )
    async with face:
        speaking: asyncio.Task[None] | None = None
        async for frame in face.frames():
            now_s = time.monotonic()
            if speaking is None:
                speaking = asyncio.create_task(_speak(face, talk, frame.time_s + 1.0))
            seen.time_s.append(frame.time_s)
            seen.jitter_ms.append(1e3 * (now_s - frame.time_s))
            seen.pictures.append(frame.picture)
            seen.sounds.append(frame.sound)
            if frame.index / FPS > seconds + 1.0:
                break
        assert speaking
        await speaking
        seen.statistics = face.statistics()
    seen.first_frame_s = seen.statistics.first_frame_s or float("nan")
    seen.late = seen.statistics.late
    return seen


async def _speak(face: LiveSession, talk: list[Burst], began_s: float) -> None:
    for burst in talk:
        await asyncio.sleep(began_s + burst.at_s - time.monotonic())
        burst.fed_s = time.monotonic()
        face.feed(burst.samples)
        if burst.stop_s is not None:
            await asyncio.sleep(began_s + burst.stop_s - time.monotonic())
            burst.stopped_s = time.monotonic()
            face.interrupt()


class Trickle:
    """The sound of a talk as it would be spoken: 40 ms every 40 ms, silence while nothing is said.
    The talk begins a second after `began_s`."""

    def __init__(self, talk: list[Burst], seconds: float) -> None:
        self.began_s = float("nan")
        self.sounds: list[Array] = []  # int16 [640] each
        self._talk, self._num_frames = talk, round((seconds + 1) * FPS)

    def __iter__(self) -> Iterator[Array]:
        self.began_s = time.monotonic()
        waiting = np.empty(0, np.int16)
        for frame in range(self._num_frames):
            begin_s = self.began_s + frame / FPS
            waiting = self._happened(begin_s - 1 / FPS, begin_s, waiting)
            sound, waiting = waiting[:SAMPLES_PER_FRAME], waiting[SAMPLES_PER_FRAME:]
            self.sounds.append(np.pad(sound, (0, SAMPLES_PER_FRAME - len(sound))))
            time.sleep(max(0.0, begin_s + 1 / FPS - time.monotonic()))  # its last sample is spoken
            yield self.sounds[-1]

    def _happened(self, since_s: float, until_s: float, waiting: Array) -> Array:
        """What waits to be spoken after the bursts and interruptions of a time."""
        for burst in self._talk:
            at_s = self.began_s + 1.0 + burst.at_s
            if since_s < at_s <= until_s:
                burst.fed_s, waiting = at_s, burst.samples
            if burst.stop_s is not None:
                at_s = self.began_s + 1.0 + burst.stop_s
                if since_s < at_s <= until_s:
                    burst.stopped_s, waiting = at_s, waiting[:0]
        return waiting


def naive(url: str, image: Path, talk: list[Burst], seconds: float) -> Seen:
    """Hold the talk the naive way. A frame is shown `NAIVE_DELAY_S` behind the beginning of its
    sound, or when it comes if that is later."""
    seen, trickle, opened_s = Seen(), Trickle(talk, seconds), time.monotonic()
    with Session(url=url, image=image, prompt=PROMPT, idle=False) as session:
        for block in session.stream(trickle):
            arrived_s = time.monotonic()
            shown_s = trickle.began_s + NAIVE_DELAY_S + block.frame_index / FPS
            seen.late += arrived_s > shown_s
            seen.jitter_ms.append(1e3 * max(0.0, arrived_s - shown_s))
            seen.time_s += [max(arrived_s, shown_s + k / FPS) for k in range(len(block.frames))]
            seen.pictures += list(block.frames)
    seen.sounds = trickle.sounds
    seen.first_frame_s = seen.time_s[0] - opened_s
    return seen
