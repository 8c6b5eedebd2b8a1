"""A room for LiveKit's runner: no server, and somebody subscribes soon."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from livekit import rtc


@dataclass
class Publication:
    subscribed_after_s: float

    async def wait_for_subscription(self) -> None:
        await asyncio.sleep(self.subscribed_after_s)


@dataclass
class Participant:
    subscribed_after_s: float
    tracks: dict[str, Any] = field(default_factory=dict)

    async def publish_track(self, track: Any, options: Any) -> Publication:
        self.tracks[track.name] = track
        return Publication(self.subscribed_after_s)


class StandInRoom(rtc.EventEmitter[str]):
    """`local_participant.tracks` are the published ones, by name."""

    def __init__(self, subscribed_after_s: float = 0.0) -> None:
        super().__init__()
        self.local_participant = Participant(subscribed_after_s)

    def isconnected(self) -> bool:
        return True
