"""A live session whose network is cut."""

import asyncio
import time
import tracemalloc

import numpy as np
import pytest

from live_avatar_client import LiveFrame, LiveSession
from tests.client.cut_wire import cut_wire
from tests.client.live.simulated_talk import Talk, speech
from tests.support.fake_avatar_server import FakeAvatar, serving

pytestmark = pytest.mark.long
CUT_S = 5.0


def test_a_network_that_is_cut_for_five_seconds_holds_the_face_and_loses_no_word() -> None:
    """The clock goes on, the picture stands, and then the talk goes on where it was."""
    said = speech(3.0)

    async def talk(face: LiveSession, cut: asyncio.Event) -> list[LiveFrame]:
        face.feed(said)
        seen = []
        async for frame in face.frames():
            seen.append(frame)
            if frame.index == 30:
                cut.set()
            if frame.index >= 25 * (3 + CUT_S + 3):
                break
        return seen

    async def run(port: int) -> tuple[list[LiveFrame], float]:
        cut = asyncio.Event()
        with cut_wire(port) as wire:
            url = f"127.0.0.1:{wire.port}"
            async with LiveSession(image=b"png", url=url) as face:
                begun_s = time.monotonic()
                talking = asyncio.create_task(talk(face, cut))
                await cut.wait()
                wire.cut()
                await asyncio.sleep(CUT_S)
                wire.mend()
                return await talking, begun_s

    with serving(FakeAvatar(block_s=0.1)) as url:
        seen, begun_s = asyncio.run(run(int(url.rpartition(":")[2])))
    assert [f.index for f in seen] == list(range(len(seen)))
    assert all(f.time_s == pytest.approx(seen[0].time_s + f.index / 25, abs=1e-6) for f in seen)
    assert 100 <= sum(f.is_held for f in seen) <= 25 * (CUT_S + 0.5)
    heard = np.concatenate([f.sound for f in seen if not f.is_held])
    begin = np.flatnonzero(heard)[0]
    assert np.array_equal(heard[begin : begin + len(said)], said)
    assert seen[0].time_s - begun_s < 2


def test_an_hour_of_idle_takes_no_memory_and_answers_as_soon() -> None:
    """A face that waits for somebody all night, and then answers as on the first evening."""
    talk = Talk()
    sizes = []
    tracemalloc.start()
    for minute in range(1, 61):
        talk.run(60.0 * minute)
        for kept in (talk.shown, talk.orders, talk._heard):
            del kept[:-1]
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert max(sizes[30:]) < sizes[29] + 4_000  # bytes; the figures' windows are full long before
    assert talk.plan.counts.frames == pytest.approx(25 * 3600, abs=10)
    assert talk.plan.counts.held == talk.plan.counts.skipped == 0
    talk.feed(3600.2, speech(1.0))
    talk.run(3603.0)
    first = next(s for s in talk.shown if s.sent.is_speech)
    assert first.time_s - 1000.0 - 3600.2 <= 0.15 + 0.04 + 1e-6
