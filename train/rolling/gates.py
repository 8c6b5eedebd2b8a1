"""What the shipped model has to reach, from gates.toml."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("gates.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A figure and its limits, which are allowed; None: none."""

    name: str
    about: str
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            raise ValueError(f"gate {self.name} has neither low nor high")

    def passed(self, value: float) -> bool:
        """False for nan: what was not measured is not reached."""
        above = self.low is None or value >= self.low
        below = self.high is None or value <= self.high
        return above and below and value == value


def bounds(path: Path = FILE) -> list[Bound]:
    """All gates; ValueError names what is not understood."""
    return [Bound(**each) for each in tomllib.loads(path.read_text())["gates"]]
