"""A film of words: 16 pictures a second in 25 frames, and what happens when they are late."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from live_avatar_client.gateway import film
from live_avatar_client.gateway.film import Film
from live_avatar_client.live.frame import LiveFrame
from live_avatar_client.protocol import AvatarError, Block

pytestmark = pytest.mark.long


class FakeStream:
    """A `VideoStream` whose pictures are numbered, the number being their value."""

    block_s = 0.0
    num_blocks = 1000
    prompts: list[str | None]

    def __init__(self, *, prompt: str, **_: Any) -> None:
        type(self).prompts = [prompt]
        self._done = 0

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def blocks(self, count: int, *, prompt: str | None) -> Iterator[Block]:
        self.prompts.append(prompt)
        for _ in range(count):
            time.sleep(self.block_s)
            if self._done == self.num_blocks:
                raise AvatarError("the server went away")
            values = np.arange(12 * self._done, 12 * self._done + 12).astype(np.uint8)
            frames = np.broadcast_to(values[:, None, None, None], (12, 8, 8, 3))
            yield Block(
                frames=frames,
                frame_index=12 * self._done,
                block=self._done,
                timings_ms={},
                latent=None,
                received_s=0.0,
            )
            self._done += 1


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> type[FakeStream]:
    made = type("Stream", (FakeStream,), {})
    monkeypatch.setattr(film, "VideoStream", made)
    return made


async def watched(count: int, prompt_at: int = -1) -> tuple[list[LiveFrame], Film]:
    frames = []
    async with Film(url="", model="", prompt="fog", seed=1) as shown:
        async for frame in shown.frames():
            frames.append(frame)
            if len(frames) == prompt_at:
                await shown.set_prompt("sun")
            if len(frames) == count:
                break
    return frames, shown


def test_sixteen_pictures_are_a_second(stream: type[FakeStream]) -> None:
    """The film would run half as fast again."""
    frames, shown = asyncio.run(watched(51))
    numbers = [int(frame.picture[0, 0, 0]) for frame in frames]
    assert numbers == [16 * tick // 25 for tick in range(51)]
    assert shown.statistics().held == 0
    assert frames[50].time_s - frames[0].time_s == pytest.approx(2)


def test_a_late_film_stands_still_and_loses_no_picture(stream: type[FakeStream]) -> None:
    """It would jump, or run faster to make up for what nobody saw."""
    stream.block_s = 1.0  # a block is 0.75 s of film
    frames, shown = asyncio.run(watched(75))
    numbers = [int(frame.picture[0, 0, 0]) for frame in frames]
    assert set(np.diff(numbers)) == {0, 1}
    assert shown.statistics().held > 5
    assert any(frame.is_held for frame in frames)


def test_a_prompt_goes_with_the_next_request(stream: type[FakeStream]) -> None:
    """It would be asked for again with every block, or never."""
    asyncio.run(watched(60, prompt_at=10))
    assert stream.prompts[0] == "fog"
    assert [prompt for prompt in stream.prompts[1:] if prompt] == ["sun"]


def test_what_ends_the_film_is_raised_behind_its_last_picture(stream: type[FakeStream]) -> None:
    """A viewer would wait for ever."""
    stream.num_blocks = 1

    seen: list[int] = []

    async def run() -> None:
        async with Film(url="", model="", prompt="fog", seed=1) as shown:
            async for frame in shown.frames():
                seen.append(int(frame.picture[0, 0, 0]))

    with pytest.raises(AvatarError, match="went away"):
        asyncio.run(run())
    assert set(seen) == set(range(12))
