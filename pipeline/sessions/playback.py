"""What a viewer sees of a session who plays its frames at their own speed."""

from dataclasses import dataclass


@dataclass(slots=True)
class Playback:
    """Tells which blocks come late. All times are of one clock, in seconds."""

    until_s: float | None = None
    """When all that was answered has been played; None before there is anything to play."""

    def shows(self, length_s: float, came_s: float, now_s: float) -> bool:
        """Take a block of `length_s` that is answered now; whether it is late: the viewer has
        played all before it, and its sound came more than its own length ago. A first block is
        never late; how long it took is a figure of its own."""
        begins_s = now_s if self.until_s is None else max(self.until_s, now_s)
        due_s = now_s if self.until_s is None else max(self.until_s, came_s + length_s)
        self.until_s = begins_s + length_s
        return now_s > due_s

    def restart(self) -> None:
        """What was answered is thrown away; the next block is a first one."""
        self.until_s = None
