"""What is kept of a session at a model that holds it, to bring it back there (`replay.py`).

Numbers decide what is kept, so nothing here calls a model.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import numpy as np

from pipeline.engines.base import Array, Arrays

LASTING = ("reference", "text", "sink", "ring_start", "num_blocks")
"""Inputs of a step that hold for those after it."""
DECODER_BLOCKS = 5
"""Latents that decide a decoder's state: it looks no further back."""


@dataclass(slots=True)
class Kept:
    """One session at one model: its opening, and the inputs of its last steps."""

    reads: ClassVar[str | None] = None
    """What the model holds of the session, to be read after each step and kept with its inputs."""

    opening: Arrays
    most: int  # blocks that are kept
    steps: dict[int, dict[str, Array]] = field(default_factory=dict)
    """Inputs of steps that are done, by tick: of each block as it was made last."""
    lasting: dict[str, Array] = field(default_factory=dict)  # from steps that are kept no more
    begun: int = 0  # recoveries
    done: int = 0

    def add(self, tick: int, inputs: dict[str, Array]) -> None:
        """A step is done."""
        for other in [t for t, kept in self.steps.items() if kept["block"] == inputs["block"]]:
            before, after = self.steps.pop(other), inputs
            if other > tick:  # its lane came here first
                tick, before, after = other, inputs, before
            stays = (
                lasting_of(before) if "latent" in after else before
            )  # else it was left as it was
            inputs = {**stays, **after}
        self.steps[tick] = inputs
        while len(self.steps) > self.most:
            self.lasting |= lasting_of(self.steps.pop(min(self.steps)))

    @property
    def num_bytes(self) -> int:
        held = (self.opening, self.lasting, *self.steps.values())
        return sum(array.nbytes for arrays in held for array in arrays.values())

    def returning(self) -> tuple[Arrays, int]:
        """What opens it anew, and the number of its first step then."""
        history = self.history()
        return self.opening, history[0][0] if history else 0

    def missed(self, inputs: Arrays) -> Arrays:
        """What is to be run of a step that was done as its model was lost, and is not kept."""
        return inputs

    def history(self) -> list[tuple[int, Arrays]]:
        """What to run again, in order, numbered without gaps. It begins at an even block: the
        decoder's two sets of buffers take turns, and opening writes the first."""
        ticks, lasting = sorted(self.steps), dict(self.lasting)
        while ticks and self.steps[ticks[0]]["block"][0] % 2:
            lasting |= lasting_of(self.steps[ticks.pop(0)])
        if not ticks:
            return []
        first = ticks[-1] + 1 - len(ticks)
        begun = {**lasting, **self.steps[ticks[0]]}
        others = (self.steps[tick] for tick in ticks[1:])
        return [(first + number, inputs) for number, inputs in enumerate([begun, *others])]


def lasting_of(inputs: Arrays) -> Arrays:
    """Those that hold for later steps, too."""
    return {name: inputs[name] for name in LASTING if name in inputs}


def copied(arrays: Arrays) -> dict[str, Array]:
    """Answers of other processes are views of memory that both share, and that is wanted back."""
    return {name: np.array(array) for name, array in arrays.items()}


def keep_blocks(blocks: int) -> partial[Kept]:
    """Keep as many of each session, of its opening. One more, so that an even one begins."""
    return partial(Kept, most=blocks + 1)
