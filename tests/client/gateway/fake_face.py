"""A stand-in for `LiveSession`: 25 frames a second without a server, white while it speaks."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import numpy as np

from live_avatar_client.live.frame import LiveFrame
from live_avatar_client.live.statistics import LiveStatistics, Percentiles
from live_avatar_client.protocol import FPS, SAMPLES_PER_FRAME, Array, AvatarError

SIDE = 32
_NONE = Percentiles(count=0, p50=float("nan"), p95=float("nan"), p99=float("nan"))
STATISTICS = LiveStatistics(
    **{
        field.name: _NONE if field.type == "Percentiles" or field.type is Percentiles else 0
        for field in dataclasses.fields(LiveStatistics)
    }
)


class FakeFace:
    """`faces` has all that were made. `refusals` are raised by the next ones, in turn."""

    faces: ClassVar[list["FakeFace"]] = []
    refusals: ClassVar[list[str]] = []

    def __init__(self, **arguments: Any) -> None:
        self.arguments, self.is_open = arguments, False
        self.said = np.empty(0, np.int16)
        self.prompts: list[str] = []
        self.interruptions = 0
        self.is_lost = False
        self.failure = FakeFace.refusals.pop(0) if FakeFace.refusals else None
        FakeFace.faces.append(self)

    async def __aenter__(self) -> "FakeFace":
        self.is_open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.is_open = False

    def feed(self, audio: Array) -> None:
        unit = audio if audio.dtype == np.int16 else (audio * 32767).astype(np.int16)
        self.said = np.concatenate([self.said, unit])

    def flush(self) -> None:
        pass

    def interrupt(self) -> int:
        self.said = self.said[:0]
        self.interruptions += 1
        return self.interruptions

    async def set_prompt(self, prompt: str) -> None:
        self.prompts.append(prompt)

    def statistics(self) -> LiveStatistics:
        return STATISTICS

    async def frames(self) -> AsyncIterator[LiveFrame]:
        t0_s, index = time.monotonic(), 0
        while self.is_open:
            if self.failure is not None:
                raise AvatarError(self.failure)
            time_s = t0_s + index / FPS
            await asyncio.sleep(max(0.0, time_s - time.monotonic()))
            sound, self.said = self.said[:SAMPLES_PER_FRAME], self.said[SAMPLES_PER_FRAME:]
            is_speech = len(sound) > 0
            yield LiveFrame(
                index=index,
                time_s=time_s,
                picture=np.full((SIDE, SIDE, 3), 235 if is_speech else 20, np.uint8),
                sound=np.pad(sound, (0, SAMPLES_PER_FRAME - len(sound))),
                is_speech=is_speech,
                is_held=False,
                generation=self.interruptions,
                block=index // 12,
                timings_ms={"total": 150.0, "dit_stage_0": 40.0},
            )
            index += 1
