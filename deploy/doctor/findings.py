"""What an examination of a machine says, line by line."""

from collections.abc import Sequence
from typing import NamedTuple

OK, NOTE, PROBLEM = "ok", "note", "PROBLEM"


class Finding(NamedTuple):
    """One line of the report."""

    state: str
    what: str
    text: str
    fix: str = ""


def judged(is_fine: bool, what: str, text: str, fix: str, needed: bool = True) -> Finding:
    """All is well, or the fix follows: of a problem if this is needed, else of a note."""
    if is_fine:
        return Finding(OK, what, text)
    return Finding(PROBLEM if needed else NOTE, what, text, fix)


def report(findings: Sequence[Finding]) -> str:
    width = max(len(finding.what) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:<8} {finding.what:<{width}}  {finding.text}")
        if finding.fix:
            lines.append(f"{'':<8} {'':<{width}}  -> {finding.fix}")
    return "\n".join(lines)
