"""What an examination of a machine says, line by line. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OK, NOTE, PROBLEM = "ok", "note", "PROBLEM"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report."""

    what: str
    state: str
    text: str
    fix: str = ""


def report(findings: Sequence[Finding]) -> str:
    width = max(len(finding.what) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:<8} {finding.what:<{width}}  {finding.text}")
        if finding.fix:
            lines.append(f"{'':<8} {'':<{width}}  -> {finding.fix}")
    return "\n".join(lines)
