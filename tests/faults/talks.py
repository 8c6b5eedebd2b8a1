"""A person who talks through the client at real time, and remembers what came back."""

import logging
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from live_avatar_client import AvatarError, Session
from tests.support.raw_stream import IMAGE

BLOCK_S = 0.48
SAMPLES = 7680


@dataclass(eq=False)
class Talk:
    """`num_blocks` of speech, one each 0.48 s, in a session that resumes."""

    url: str
    seed: int
    num_blocks: int
    checksums: list[int] = field(default_factory=list)  # of every block's frames
    times: list[float] = field(default_factory=list)  # when it came, monotonic
    error: str = ""  # of a session that was given up

    def __post_init__(self) -> None:
        draw = np.random.default_rng(self.seed)
        self._speech = (0.1 * draw.standard_normal(self.num_blocks * SAMPLES)).astype(np.float32)
        self._begun_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def join(self, within_s: float) -> bool:
        """Whether it came to its end in time, with every block."""
        self._thread.join(within_s)
        return len(self.times) == self.num_blocks

    def wait_for(self, num_blocks: int) -> None:
        """Until so many have come; AssertionError after a minute."""
        deadline = time.monotonic() + 60
        while len(self.times) < num_blocks:
            assert time.monotonic() < deadline, self.error
            time.sleep(0.01)

    def gap_s(self, since_s: float = 0.0) -> float:
        """The longest time without a block from a moment on."""
        times = np.array([s for s in self.times if s >= since_s - 1.0])
        return float(np.diff(times).max()) if len(times) > 1 else float("inf")

    def _run(self) -> None:
        try:
            with Session(
                url=self.url, image=IMAGE.tobytes(), seed=self.seed, idle=False, resume=True
            ) as face:
                for block in face.stream(self._spoken()):
                    self.checksums.append(zlib.crc32(block.frames.tobytes()))
                    self.times.append(time.monotonic())
        except AvatarError as error:
            self.error = str(error)

    def _spoken(self) -> Iterator[np.ndarray]:
        for number in range(self.num_blocks):
            due_s = self._begun_s + BLOCK_S * number
            time.sleep(max(0.0, due_s - time.monotonic()))
            yield self._speech[number * SAMPLES : (number + 1) * SAMPLES]


class Resumed(logging.Handler):
    """A context manager that keeps what clients say when they begin a session anew."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.words.append(record.getMessage())

    def __enter__(self) -> Self:
        logging.getLogger("live_avatar_client").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("live_avatar_client").removeHandler(self)
