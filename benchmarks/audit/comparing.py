"""What moved between two reports, beyond noise.

Two reports are not measured in turns, so noise is what each of them saw itself. A figure has moved
when the ranges of both lie apart; where either has fewer than five runs, by more than the wider of
the ranges is wide. A figure that was measured once is not judged.
"""

from dataclasses import dataclass, field
from typing import Any

from benchmarks.audit.figures import Figure, better, figures
from benchmarks.audit.record import results

ENOUGH = 5
"""Runs: ranges of five and five lie apart by chance in one pair of 126."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A figure that moved; `word` is better, worse or moved."""

    part: str
    path: str
    old: Figure
    new: Figure
    word: str

    @property
    def factor(self) -> float:
        return self.new.value / self.old.value if self.old.value else float("inf")


@dataclass(slots=True, kw_only=True)
class Comparison:
    """`moves` beyond noise; how many figures stayed within it, and how many nobody can judge;
    `remarks`: what else differs, and what is not compared and why."""

    moves: list[Move] = field(default_factory=list)
    within: int = 0
    unjudged: int = 0
    remarks: list[str] = field(default_factory=list)


def compare(old: dict[str, Any], new: dict[str, Any]) -> Comparison:
    """Two saved reports, the earlier one first."""
    found = Comparison(remarks=_differences(old, new))
    for name in dict.fromkeys((*old["parts"], *new["parts"])):
        before, after = old["parts"].get(name), new["parts"].get(name)
        if reason := _not_comparable(before, after):
            found.remarks.append(f"{name} is not compared: {reason}")
            continue
        seen, now = figures(results(before)), figures(results(after))
        for path in seen.keys() & now.keys():
            _judge(found, name, path, seen[path], now[path])
        if lost := seen.keys() ^ now.keys():
            found.remarks.append(f"{name}: in one of the two alone: {', '.join(sorted(lost))}")
    found.moves.sort(key=lambda move: (list(new["parts"]).index(move.part), move.path))
    return found


def has_moved(old: Figure, new: Figure) -> bool | None:
    """None: nobody can say, one of them has no spread."""
    if old.low is None or old.high is None or new.low is None or new.high is None:
        return None
    apart = max(new.low - old.high, old.low - new.high)
    if min(old.runs, new.runs) >= ENOUGH:
        return apart > 0
    return apart > max(old.high - old.low, new.high - new.low)


def _judge(found: Comparison, part: str, path: str, old: Figure, new: Figure) -> None:
    moved = has_moved(old, new)
    if moved is None:
        found.unjudged += 1
    elif not moved:
        found.within += 1
    else:
        word = better(path, new.value - old.value)
        found.moves.append(Move(part=part, path=path, old=old, new=new, word=word))


def _not_comparable(old: dict[str, Any] | None, new: dict[str, Any] | None) -> str:
    """Why two parts are not compared; "" if they are."""
    for which, part in (("the earlier", old), ("this", new)):
        if part is None:
            return f"{which} report has no such part"
        if part["not_measured"]:
            return f"not measured in {which} report: {part['not_measured']}"
    assert old is not None
    assert new is not None
    if old["options"] != new["options"]:
        return f"it ran with {old['options']!r}, now with {new['options']!r}"
    return ""


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Other machines, versions, presets and files, in words."""
    found = []
    for what in ("machine", "versions", "preset", "artifacts"):
        keys = dict.fromkeys((*old[what], *new[what]))
        changed = [k for k in keys if old[what].get(k) != new[what].get(k) and k != "load"]
        if what == "artifacts" and len(changed) > 3:
            found.append(f"other artifacts: {len(changed)} files of {len(keys)}")
        elif changed:
            pairs = (f"{k} {old[what].get(k)} → {new[what].get(k)}" for k in changed)
            found.append(f"other {what}: {', '.join(pairs)}")
    return found
