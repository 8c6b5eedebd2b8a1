"""What the plan of a conversation says: to the server, and to the viewer."""

from dataclasses import dataclass

from live_avatar_client.live.mirror import Sent
from live_avatar_client.protocol import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What goes to the server: what it lacks for the next block, int16 [n], or all that block
    `interrupt` is to hear: the newest one, made again, or the next one."""

    sound: Array
    interrupt: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a tick shows: frame `frame` of the stream with its sound, or the one before again."""

    tick: int
    time_s: float
    frame: int
    sent: Sent
    is_held: bool
