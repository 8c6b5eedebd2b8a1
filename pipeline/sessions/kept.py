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
    """Inputs of steps that are done, by tick."""
    lasting: dict[str, Array] = field(default_factory=dict)  # from steps that are kept no more
    begun: int = 0  # recoveries
    done: int = 0

    def add(self, tick: int, inputs: dict[str, Array]) -> None:
        """A step is done."""
        self.steps[tick] = inputs
        while len(self._last_of_each_block()) > self.most:
            self.lasting |= lasting_of(self.steps.pop(min(self.steps)))

    @property
    def num_bytes(self) -> int:
        held = (self.opening, self.lasting, *self.steps.values())
        return sum(array.nbytes for arrays in held for array in arrays.values())

    def history(self) -> list[tuple[int, Arrays]]:
        """What to run again, in order, each block as it was made last; numbered without gaps. It
        begins at an even block: the decoder's two sets of buffers take turns, and opening writes
        the first."""
        lasting, again = dict(self.lasting), list[dict[str, Array]]()
        last_of_each = set(self._last_of_each_block().values())
        for tick, inputs in sorted(self.steps.items()):
            if tick not in last_of_each or (not again and inputs["block"][0] % 2):
                lasting |= lasting_of(inputs)
            else:
                again.append({**lasting, **inputs})
                lasting = {}
        first = max(self.steps, default=0) + 1 - len(again)
        return [(first + number, inputs) for number, inputs in enumerate(again)]

    def _last_of_each_block(self) -> dict[int, int]:
        """Block -> the tick that made it last: one may be made again."""
        return {int(self.steps[tick]["block"][0]): tick for tick in sorted(self.steps)}


def lasting_of(inputs: Arrays) -> Arrays:
    """Those that hold for later steps, too."""
    return {name: inputs[name] for name in LASTING if name in inputs}


def copied(arrays: Arrays) -> dict[str, Array]:
    """Answers of other processes are views of memory that both share, and that is wanted back."""
    return {name: np.array(array) for name, array in arrays.items()}


def keep_blocks(blocks: int) -> partial[Kept]:
    """Keep as many of each session, of its opening. One more, so that an even one begins."""
    return partial(Kept, most=blocks + 1)
