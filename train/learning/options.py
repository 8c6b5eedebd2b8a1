"""The options that the commands of training share, each said once.

With `--steps` the learning rate follows the steps, and equal seeds give equal weights.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

OPTIONS: dict[str, dict[str, Any]] = {
    "out": {"type": Path, "required": True, "help": "folder of what is made"},
    "weights": {"type": Path, "required": True, "help": "folder of trained safetensors"},
    "clips": {"type": Path, "required": True, "help": 'has folders "train" and "dev"'},
    "start": {"type": Path, "help": "weights to go on from"},
    "minutes": {"type": float, "default": 60.0, "help": "length of the schedule"},
    "steps": {"type": int, "help": "length of the schedule in steps instead"},
    "every": {"type": float, "default": 3.0, "help": "minutes between scores, rows and saves"},
    "resume": {"action": "store_true", "help": "go on from the saved state"},
    "rate": {"type": float, "default": 1.0, "help": "times all learning rates"},
    "seed": {"type": int, "default": 0},
    "threads": {"type": int, "default": 2, "help": "cores that compute"},
    "device": {"default": "cpu", "help": "cpu, or cuda for a GPU"},
    "parts": {"type": int, "default": 1, "help": "learners' lessons in every step, for a GPU"},
    "workers": {"type": int, "default": 0, "help": "processes that prepare lessons ahead"},
    "products": {
        "choices": ("float32", "bfloat16"),
        "default": "float32",
        "help": "type of factors in matrix products: bfloat16 for processors that have it",
    },
}


def parser(about: str, *names: str, **changed: Any) -> argparse.ArgumentParser:
    """A parser with these of the options; `changed`: defaults that differ from the table's."""
    spec = sys.modules["__main__"].__spec__  # None in a debugger
    command = f"python -m {spec.name.removesuffix('.__main__')}" if spec else None
    made = argparse.ArgumentParser(command, description=about)
    for name in names:
        made.add_argument(f"--{name}", **OPTIONS[name])
    made.set_defaults(**changed)
    return made


def saved_state(out: Path) -> Path:
    """OUT/state.pt, which `--resume` goes on from; ValueError if it is not there."""
    if not (out / "state.pt").is_file():
        raise ValueError(f"{out}: no state.pt, nothing to resume from")
    return out / "state.pt"


def run(work: Callable[[argparse.Namespace], object], args: argparse.Namespace) -> None:
    """Do `work`; what the user has to change ends the program with a line."""
    try:
        work(args)
    except ValueError as error:
        sys.exit(f"error: {error}")
