"""What does a real GPU say to what was only ever driven by stand-ins?

    python -m benchmarks.gpu_experiment --out FOLDER            # on a GPU: under nine minutes
    python -m benchmarks.gpu_experiment --miniature --out /tmp  # the same code on a CPU

Every phase runs in a process of its own, up to its deadline. A phase is one line of JSON on
stdout, as soon as it is over; the file gpu_<name>.json holds the same lines as a list. The first
line is the machine. The exit code is 0 if every phase came to its end and every assertion held.
"""

# argparse: a borrowed machine has torch, but nobody promises typer.
import argparse
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu_experiment.runner import ROOT, Phase, environment, run

MODULES = "benchmarks.gpu_experiment"
MACHINE = Phase(name="machine", title="The machine", module=f"{MODULES}.hardware", deadline_s=45)
PHASES = tuple(
    Phase(name=name, title=title, module=f"{MODULES}.{module}", deadline_s=seconds)
    for name, title, module, seconds in (
        ("A", "The binding on real CUDA", "binding", 60),
        ("B", "The demo's graphs", "graphs", 60),
        ("C", "The 14B step", "step", 180),
        ("D", "The VAE", "vae", 60),
        ("E", "Copies and captures", "copies", 45),
        ("F", "Folding", "folding", 60),
    )
)


def main(arguments: Sequence[str] | None = None, phases: Sequence[Phase] = PHASES) -> int:
    asked = _parsed(arguments, phases)
    chosen = [phase for phase in phases if phase.name in asked.phases]
    lines: list[dict[str, Any]] = []
    asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as site:
        wheels = sorted(asked.wheels.glob("*.whl")) if asked.wheels else []
        env = environment(wheels, Path(site))
        for phase in (MACHINE, *chosen):
            print(f"{phase.name}: {phase.title} …", file=sys.stderr)
            lines.append(run(phase, asked.miniature, env))
            print(json.dumps(lines[-1]), flush=True)
            _save(lines, asked.out / f"gpu_{_name(lines[0])}.json")
    return 0 if all(line["ok"] for line in lines) else 1


def _parsed(arguments: Sequence[str] | None, phases: Sequence[Phase]) -> argparse.Namespace:
    names = [phase.name for phase in phases]
    parser = argparse.ArgumentParser(prog=f"python -m {MODULES}", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--miniature", action="store_true", help="tiny sizes on a CPU")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder")
    parser.add_argument("--phases", default=",".join(names), help="some of them, as A,B")
    parser.add_argument("--wheels", type=Path, help="folder of wheels that the machine lacks")
    asked = parser.parse_args(arguments)
    asked.phases = asked.phases.split(",")
    if unknown := [name for name in asked.phases if name not in names]:
        parser.error(f"no phase {', '.join(unknown)}, there are {', '.join(names)}")
    if asked.wheels and not list(asked.wheels.glob("*.whl")):
        parser.error(f"no wheels in {asked.wheels}")
    return asked


def _name(machine: dict[str, Any]) -> str:
    """What a file may be called after the GPU: `nvidia_h200`."""
    name = str(machine["figures"].get("gpu", "unknown"))
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _save(lines: list[dict[str, Any]], path: Path) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text("[\n" + ",\n".join(map(json.dumps, lines)) + "\n]\n")
    fresh.replace(path)


if __name__ == "__main__":
    sys.exit(main())
