"""The video that `--pose` names, and a word where it is shorter or longer than what follows it."""

import logging
from collections.abc import Iterator
from pathlib import Path

from live_avatar_client.files import shown
from live_avatar_client.protocol import FPS, Array
from live_avatar_client.video.pose import check_pose, read_pose

logger = logging.getLogger(__name__)


class Followed:
    """Its frames, once, and how many of them were taken."""

    def __init__(self, path: Path) -> None:
        """ValueError for a file that can't be followed."""
        check_pose(path)
        self._name, self._frames = shown(path), read_pose(path)
        self.num_taken = 0

    def __iter__(self) -> Iterator[Array]:
        for frame in self._frames:
            self.num_taken += 1
            yield frame

    def compare(self, num_frames: int) -> None:
        """Warn if a whole video of `num_frames` had to go on without, or left some of it out."""
        if self.num_taken < num_frames:
            logger.warning(
                "pose %s ends after %.2f s, the video goes on to %.2f s without it",
                *(self._name, self.num_taken / FPS, num_frames / FPS),
            )
        elif next(self._frames, None) is not None:
            logger.warning(
                "pose %s is longer than the sound, it was followed for %.2f s",
                *(self._name, num_frames / FPS),
            )
