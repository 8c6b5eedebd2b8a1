"""Check the released files: `python -m export.checkpoint.inspect DIR [--lora FILE]`.

Reads headers and no numbers. Ends with status 1 if anything is missing, unexpected or mis-shaped,
and names it all.
"""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from export.checkpoint.files import Weights
from export.checkpoint.lora import RELEASED_ALPHA, RELEASED_RANK, open_lora, summary
from export.checkpoint.released import COMPONENTS, Component, check_config, missing_tokenizer
from export.commands import Alpha, LoraFile, Rank, ReleaseFolder, failing_in_words
from export.presets import AvatarName, preset_named
from networks.presets import Preset


class Finding(NamedTuple):
    """One row of the table."""

    name: str
    weights: Weights | None  # None: unreadable
    notes: list[str]  # what is in order but worth knowing
    problems: list[str]


def inspect_checkpoint(
    folder: Path,
    preset: Preset,
    lora: Path | None = None,
    *,
    rank: int = RELEASED_RANK,
    alpha: float = RELEASED_ALPHA,
) -> list[Finding]:
    """What the release's folder and the LoRA file hold, and all that does not fit `preset`."""
    findings = []
    for component in COMPONENTS:
        weights, problems = component.fitting(folder, preset)
        notes = [] if weights is None else _notes(component, weights)
        if component.name == "dit":
            problems += check_config(folder, preset)
        findings.append(Finding(component.name, weights, notes, problems))
    if missing := missing_tokenizer(folder, preset):
        findings.append(Finding("tokenizer", None, [], missing))
    if lora is not None:
        findings.append(_inspect_lora(lora, findings[0].weights, rank, alpha))
    return findings


def _notes(component: Component, weights: Weights) -> list[str]:
    notes, wanted = [], component.dtype
    if others := [key for key, info in weights.infos.items() if wanted and info.dtype != wanted]:
        notes.append(f"{len(others)} tensors are not {wanted} as released; their digits are lost")
    if unused := component.unused(weights):
        notes.append(f"{len(unused)} not used here: {', '.join(unused)}")
    return notes


def _inspect_lora(path: Path, dit: Weights | None, rank: int, alpha: float) -> Finding:
    if dit is None:
        problem = f"lora: {path} is not checked, there is no DiT to match it with"
        return Finding("lora", None, [], [problem])
    try:
        lora = open_lora(path, dit, rank=rank, alpha=alpha)
    except (ValueError, OSError) as error:
        return Finding("lora", None, [], [f"lora: {error}"])
    return Finding("lora", lora.weights, [summary(lora)], [])


def table(findings: list[Finding]) -> Table:
    """Files, tensors, parameters, element types and bytes of every component."""
    shown = Table(title="checkpoint")
    for title in ("component", "files", "tensors", "parameters", "types", "bytes", "verdict"):
        numeric = title in ("files", "tensors", "parameters", "bytes")
        shown.add_column(title, justify="right" if numeric else "left")
    for finding in findings:
        verdict = f"[red]{len(finding.problems)} problems" if finding.problems else "[green]fits"
        shown.add_row(finding.name, *_counts(finding.weights), verdict)
    return shown


def _counts(weights: Weights | None) -> tuple[str, ...]:
    if weights is None:
        return ("–",) * 5
    infos = weights.infos.values()
    types = Counter(str(info.dtype).removeprefix("torch.") for info in infos)
    numbers = sum(info.num_bytes // info.dtype.itemsize for info in infos)
    return (
        str(len(weights.files)),
        str(len(infos)),
        f"{numbers:,}",
        ", ".join(f"{name} × {count}" for name, count in sorted(types.items())),
        f"{sum(info.num_bytes for info in infos):,}",
    )


def say_findings(findings: list[Finding]) -> None:
    """Table, notes and problems; ends the command with status 1 if there are problems."""
    Console().print(table(findings))
    for finding in findings:
        for note in finding.notes:
            typer.echo(f"{finding.name}: {note}")
    problems = [problem for finding in findings for problem in finding.problems]
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(1)


@failing_in_words()
def main(
    folder: ReleaseFolder,
    lora: LoraFile = None,
    preset: AvatarName = "14b",
    rank: Rank = RELEASED_RANK,
    alpha: Alpha = RELEASED_ALPHA,
) -> None:
    """Compare the released files with the networks; nothing is loaded."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    say_findings(inspect_checkpoint(folder, preset_named(preset), lora, rank=rank, alpha=alpha))


if __name__ == "__main__":
    typer.run(main)
