"""Short pieces of many clips for training the VAE, drawn by processes in the background.

With one process, what a step sees follows from the seed and the step's number alone: clips join a
store in order, and a generator seeded by the step cuts pieces. A resumed run draws its store again.

B batch   T frames   S the picture's side in pixels
"""

import multiprocessing
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.pool import AsyncResult
from typing import Self

import numpy as np
import torch
from torch import Tensor

from train.learning.device import moved_to
from train.vae.video import CPU, to_video
from train.vae.worlds import WORLDS

FRAMES = 75
FIRST_CLIPS = 48
MOST_CLIPS = 160
STEPS_PER_CLIP = 6
AHEAD = 6  # clips that are drawn before they are wanted
SHAPES = ((4, 5), (3, 9), (2, 13))  # batch, frames of a step: short pieces teach more per frame
SHAPE_WEIGHTS = (0.6, 0.25, 0.15)


@dataclass(frozen=True, slots=True)
class Batch:
    """Pieces of clips."""

    video: Tensor  # float32 [B, 3, T, S, S] in [-1, 1]
    regions: Tensor  # uint8 [B, T, S, S], indices into `train.world.render.REGIONS`


def _start() -> None:
    torch.set_num_threads(1)


def _draw(world: str, index: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    made = WORLDS[world](index, FRAMES, size, "train")
    return made.frames, made.regions


class ClipStore:
    """Use as a context; `batch(step)` must be called with growing steps."""

    def __init__(
        self,
        seed: int,
        size: int,
        step: int = 0,
        part: int = 0,
        parts: int = 1,
        *,
        times: int = 1,
        workers: int = 1,
        device: torch.device = CPU,
        world: str = "faces",
    ) -> None:
        """Continue at `step`. Clips are numbered from 100,000 * seed; of `parts` stores, each for a
        learner, this one holds every `parts`-th. For a GPU: batches are `times` as large, `workers`
        processes draw as many times the clips, pieces come to `device`. `world`: of `WORLDS`."""
        self.world = world
        self.seed, self.size, self.part, self.parts = seed, size, part, parts
        self.times, self.workers, self.device = times, workers, device
        most = MOST_CLIPS * workers // parts
        self.next = max(0, self._wanted(step) - most)
        self.clips: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=most)
        self.ordered: deque[AsyncResult] = deque()
        self.ahead = AHEAD * workers
        self.thread = ThreadPoolExecutor(1)
        self.coming: Future[tuple[np.ndarray, np.ndarray]] | None = None
        self.pool = multiprocessing.get_context("spawn").Pool(workers, _start)
        self._order(self._wanted(step) + self.ahead)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.shutdown(cancel_futures=True)
        self.pool.terminate()
        self.pool.join()

    def _wanted(self, step: int) -> int:
        return FIRST_CLIPS // self.parts + step * self.workers // STEPS_PER_CLIP

    def _order(self, until: int) -> None:
        while self.next < until:
            index = 100_000 * self.seed + self.next * self.parts + self.part
            self.ordered.append(
                self.pool.apply_async(_draw, (self.world, index % 1_000_000, self.size))
            )
            self.next += 1

    def _receive(self, step: int) -> None:
        self._order(self._wanted(step) + self.ahead)
        while len(self.ordered) > self.ahead:
            few = self.workers == 1 or len(self.clips) < FIRST_CLIPS // self.parts
            if not few and not self.ordered[0].ready():
                break  # a GPU does not wait for clips once it has some
            self.clips.append(self.ordered.popleft().get())

    def batch(self, step: int) -> Batch:
        """What step `step` learns from; of equal shape in all parts."""
        if self.device.type == "cpu":
            return self._batch(*self._cut(step))
        made = self.coming or self.thread.submit(self._cut, step)
        self.coming = self.thread.submit(self._cut, step + 1)
        return self._batch(*made.result())

    def _cut(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        self._receive(step)
        rng = np.random.default_rng([self.seed, step])
        count, length = SHAPES[rng.choice(len(SHAPES), p=SHAPE_WEIGHTS)]
        rng = np.random.default_rng([self.seed, step, self.part])
        frames, regions = [], []
        count *= self.times
        for index in rng.choice(len(self.clips), count, replace=count > len(self.clips)):
            first, flip = rng.integers(FRAMES - length + 1), rng.random() < 0.5
            rows = slice(int(first), int(first) + length)
            turn = (slice(None), slice(None), slice(None, None, -1 if flip else 1))
            frames.append(self.clips[index][0][rows][turn])
            regions.append(self.clips[index][1][rows][turn])
        return np.stack(frames), np.stack(regions)

    def pieces(self, count: int, length: int) -> Batch:
        """`count` pieces of `length` frames, evenly from the clips at hand."""
        if not self.clips:
            self._receive(0)
        taken = [self.clips[i * len(self.clips) // count] for i in range(count)]
        frames, regions = (np.stack([clip[i][:length] for clip in taken]) for i in (0, 1))
        return self._batch(frames, regions)

    def _batch(self, frames: np.ndarray, regions: np.ndarray) -> Batch:
        labels = moved_to(self.device, torch.from_numpy(regions))
        return Batch(to_video(frames, self.device), labels)
