"""Lessons for a GPU: those of many learners as one, made by processes ahead of the step."""

from collections.abc import Sequence

import torch
from torch.utils.data import DataLoader, Dataset

from train.learning.device import joined, moved_to
from train.teacher.pieces import Lesson, Lessons

MOST_STEPS = 10**9


class _Parts(Dataset[list[Lesson]]):
    def __init__(self, parts: Sequence[Lessons]) -> None:
        self.parts = parts

    def __getitem__(self, step: int) -> list[Lesson]:
        return [part.lesson(step) for part in self.parts]


class LessonsAhead:
    """Like one `Lessons`; `lesson` must be called with successive steps from `first` on."""

    def __init__(
        self, parts: Sequence[Lessons], first: int, workers: int, device: torch.device
    ) -> None:
        """`parts`: lessons of equal shape in a step. `workers`: processes, 0 for none."""
        loader = DataLoader(
            _Parts(parts),
            batch_size=None,
            sampler=range(first, MOST_STEPS),
            num_workers=workers,
            collate_fn=joined,
            multiprocessing_context="fork" if workers else None,
        )
        self.lessons, self.device = iter(loader), device

    def lesson(self, _: int) -> Lesson:
        return moved_to(self.device, next(self.lessons))
