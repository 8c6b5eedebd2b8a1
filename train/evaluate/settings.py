"""What is compared: every setting of the evaluation, in its full and its quick form."""

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
TRUTH, CAP, LONG = "truth", "vae", "long"
STUDENT, TEACHER, TEACHER_IN_4 = "student 4", "teacher 40", "teacher 4"
HUMAN = ("human", "human, vae")  # of those that are asked for by name, reported apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to make frames, over some faces and seeds."""

    name: str
    about: str
    model: str = "student"  # truth, vae, served, or the name of a checkpoint
    rollout: tuple[tuple[str, object], ...] = ()
    """What is no default: fields of `RolloutOptions`, of a served model options of START."""
    kind: str = "speech"  # what sounds: see `train.world.speech.KINDS`; "given" is the caller's
    seconds: int
    faces: int
    seeds: int = 1
    piece_every: int = 1  # of pieces of five seconds, the first and every so many-th are measured
    mood: str | None = None
    """One of `train.world.measure.MOUTH_MOODS`, told by the prompt alone; None: the face's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two settings whose difference is asked for, over the faces and seeds that both have."""

    one: str
    other: str
    question: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What an evaluation measures and compares."""

    settings: tuple[Setting, ...]
    pairs: tuple[Pair, ...]
    split: str = "test"
    first_face: int = 0  # seed in the split
    num_others: int = 6  # other faces and sounds that each run is compared with
    batch: int = 8  # streams side by side

    def chosen(self, names: list[str]) -> Self:
        """Only these settings; ValueError for an unknown name."""
        known = {s.name: s for s in self.settings}
        if unknown := sorted(set(names) - set(known)):
            raise ValueError(f"unknown setting {unknown[0]!r}, known are {', '.join(known)}")
        kept = tuple(s for s in self.settings if s.name in names)
        return dataclasses.replace(self, settings=kept)

    def resized(self, **most: int | None) -> Self:
        """With at most so many `faces`, `seeds` and `seconds` in every setting; None: as it is."""
        given = {name: limit for name, limit in most.items() if limit is not None}
        settings = tuple(
            dataclasses.replace(s, **{name: min(getattr(s, name), n) for name, n in given.items()})
            for s in self.settings
        )
        return dataclasses.replace(self, settings=settings)


def _settings(form: str) -> tuple[Setting, ...]:
    size = TABLES[form]

    def setting(row: dict[str, Any]) -> Setting:
        row = {"seconds": size["seconds"], "faces": "faces", "seeds": 1} | row
        row |= {name: size.get(row[name], row[name]) for name in ("seconds", "faces", "seeds")}
        if row["name"] != LONG:
            row["seconds"] = min(row["seconds"], size["seconds"])
        row["rollout"] = tuple(row.get("rollout", {}).items())
        return Setting(**{name: value for name, value in row.items() if name != "full"})

    return tuple(setting(row) for row in TABLES["settings"] if form == "full" or "full" not in row)


_PAIRS = tuple(Pair(one=one, other=other, question=asked) for one, other, asked in TABLES["pairs"])
FULL = Sweep(settings=_settings("full"), pairs=_PAIRS)
QUICK = Sweep(
    settings=tuple(
        s if s.name in (TRUTH, CAP, STUDENT) else dataclasses.replace(s, faces=2)
        for s in _settings("quick")
    ),
    pairs=_PAIRS,
    num_others=3,
    batch=4,
)
