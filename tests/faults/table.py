"""Writes docs/faults.md from what the tests of this folder saw:

python -m tests.faults.table
"""

import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.faults.outcome import Outcome

ROOT = Path(__file__).parents[2]
RESULTS, PAGE = ROOT / "out" / "faults.json", ROOT / "docs" / "faults.md"
ORDER = tuple(map(str, [*range(1, 12), "11b", 12, "12b", "12c", *range(13, 18), "17b", 18, 19, 20]))
HEAD = """# Twenty-four faults

Each fault struck a real, supervised server (`make serve`, demo preset, two stages, four places)
while two people talked through the Python client at real time. `make test-faults` writes this page.

Wanted: no session is lost by the death or the standstill of one model's process. The gap is at most
3 s, and the frames are those of an undisturbed talk. A fault of one visitor costs the others at
most a block (0.48 s). `/ready` is red within 0.5 s. Nothing stays behind.

What is beyond that stands here as it was seen. [Operations](operations.md) says how it is done.

"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table, in words."""

    number: str
    what: str
    maker: str
    talks: str
    recovery: str
    health: str

    @classmethod
    def of_words(cls, number: str, what: str, words: str) -> "Row":
        """Of a fault that never reached anybody."""
        return cls(number=number, what=what, maker=words, talks="—", recovery="—", health="—")

    def as_dict(self) -> dict[str, str]:
        return asdict(self)

    def line(self) -> str:
        cells = (self.number, self.what, self.maker or "—", self.talks, self.recovery, self.health)
        return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def row(number: str, what: str, breaks: str, found: Outcome) -> Row:
    """What was seen of one fault."""
    frames = "frames equal" if found.is_equal else "frames differ"
    gap = f"longest gap {found.gap_s:.2f} s (without the fault {found.peace_gap_s:.2f})"
    if found.ends:
        words = " ".join(found.ends[0].split())[:120]
        talks = f"ended (“{words}”) and were resumed by the client; {gap}"
    else:
        talks = f"went on, {frames}, {gap}"
    if not found.is_whole:
        talks = f"**did not come to their end**; {talks}"
    red = "green throughout" if found.red_s is None else f"red after {found.red_s:.2f} s"
    return Row(
        number=number,
        what=what,
        maker=found.maker,
        talks=talks,
        recovery=f"by itself, green after {found.back_s:.1f} s" if breaks else "none needed",
        health=red + (f"; left: {', '.join(found.left)}" if found.left else ""),
    )


def main() -> None:
    rows = json.loads(RESULTS.read_text())
    missing = [number for number in ORDER if number not in rows]
    if missing:
        raise SystemExit(f"error: no result of {', '.join(missing)} in {RESULTS}: make test-faults")
    cores, day = len(os.sched_getaffinity(0)), time.strftime("%Y-%m-%d")
    table = [
        "| # | fault | its maker saw | the two who talked | recovery | `/ready` |",
        "|---|---|---|---|---|---|",
        *(Row(**rows[number]).line() for number in ORDER),
    ]
    where = f"Seen on {day}, on {cores} cores ({platform.machine()})."
    PAGE.write_text(HEAD + where + "\n\n" + "\n".join(table) + "\n")
    print(f"written: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
