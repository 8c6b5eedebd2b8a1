"""What passes the stations: a block, its sound, its pose."""

from dataclasses import dataclass

from pipeline.avatar.request import AvatarRequest
from pipeline.avatar.session import AvatarSession, BlockInput, Sound
from pipeline.engines.base import Array
from pipeline.sessions.drift import Appearance
from pipeline.sessions.stations import Work


@dataclass(slots=True, kw_only=True)
class BlockWork(Work):
    """A block on its way through the stages."""

    session: AvatarSession
    tick: int
    input: BlockInput
    sink_distance: Array
    reference: Array | None
    prompt: AvatarRequest | None
    text: Array | None = None  # what the first stage's lane made of the prompt
    sink: Array | None = None  # what the first stage made of reference and text, for the others
    ring_start: Array | None  # int64 [num_steps], if it is another one from here on
    pose: Array | None = None  # the latent that it follows
    appearance: Appearance | None = None  # of its last latent, if drift is watched
    is_dropped: bool = False
    """It is made again: the models that it has not reached yet only count it."""
    wait_ms: float

    @property
    def place(self) -> int:
        return self.tick


@dataclass(slots=True, kw_only=True)
class SoundWork(Work):
    """What a block hears, on its way through the audio models."""

    session: AvatarSession
    generation: int
    sound: Sound
    heard: BlockInput | None = None


@dataclass(slots=True, kw_only=True)
class PoseWork(Work):
    """A block's pose, on its way through the encoder."""

    session: AvatarSession
    tick: int
    given: Array  # uint8 [T, h, w, 3]
