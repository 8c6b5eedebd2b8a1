"""What a viewer gets, 25 times in a second."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from live_avatar_client.live.orders import Shown
from live_avatar_client.protocol import Array, Block


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFrame:
    """40 ms of the conversation: picture and sound belong together."""

    index: int  # 0, 1, 2, … without a gap unless the viewer is late
    time_s: float  # when it is to be shown, `time.monotonic()`: index / 25 after the first one
    picture: Array  # uint8 RGB [H, W, 3]
    sound: Array  # int16 [640], 16 kHz
    is_speech: bool  # whether the sound is speech that was fed; held frames are as those before
    is_held: bool  # the picture before, because this one was late; its sound is silence
    generation: int  # how often the session had been interrupted when this sound was taken
    block: int  # the server's block of the picture
    timings_ms: Mapping[str, float]  # of that block


class Pictures:
    """Blocks with pictures that are still to be shown, and the one that is shown."""

    def __init__(self) -> None:
        self._blocks: deque[Block] = deque()

    def append(self, block: Block) -> None:
        """Add the next block, or the newest one made again."""
        if self._blocks and self._blocks[-1].block == block.block:
            self._blocks.pop()
        self._blocks.append(block)

    def frame(self, shown: Shown) -> LiveFrame:
        """The picture of a tick beside its sound; pictures that have passed are let go."""
        while shown.frame >= self._blocks[0].frame_index + len(self._blocks[0].frames):
            self._blocks.popleft()
        block = self._blocks[0]
        return LiveFrame(
            index=shown.tick,
            time_s=shown.time_s,
            picture=block.frames[shown.frame - block.frame_index],
            sound=shown.sent.sound,
            is_speech=shown.sent.is_speech,
            is_held=shown.is_held,
            generation=shown.sent.generation,
            block=block.block,
            timings_ms=block.timings_ms,
        )
