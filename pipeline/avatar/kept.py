"""What is kept of a session at a stage whose process may die: the caches themselves.

They lie in memory that outlives the process, and a block that was not done is made again where it
was begun. It writes its own slots of the rings and reads those of the blocks before it, so nothing
else is run again. What was said with a block and holds for later ones is kept beside them.
"""

from pipeline.engines.base import Array, Arrays
from pipeline.engines.memory import KeptMemory
from pipeline.sessions.kept import Kept, lasting_of
from pipeline.sessions.stations import LANES


class KeptCaches(Kept):
    """One session at one stage."""

    def __init__(self, opening: Arrays) -> None:
        self.memory = KeptMemory()
        super().__init__({**opening, "memory": self.memory.name}, most=LANES)

    def add(self, tick: int, inputs: dict[str, Array]) -> None:
        super().add(tick, self.missed(inputs))

    def returning(self) -> tuple[Arrays, int]:
        opening = {**self.opening, **self.lasting}
        for tick in sorted(self.steps):
            opening |= lasting_of(self.steps[tick])
        return opening, max(self.steps, default=-1) + 1

    def missed(self, inputs: Arrays) -> dict[str, Array]:
        """The caches hold what it has made."""
        return {"block": inputs["block"], **lasting_of(inputs)}

    def history(self) -> list[tuple[int, Arrays]]:
        return []
