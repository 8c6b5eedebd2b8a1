"""What `make` was given: looked at before anything is made, refused in one line.

`python3 -m deploy.settings` reads the environment, where the Makefile puts its settings.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from deploy import checkout
from deploy.outcome import exit_code
from deploy.server import open_files
from deploy.server.ports import Ports, check_trace_url, default_texts, parse_port

PRESETS = ("demo", "rolling-demo", "14b", "rolling-1.3b")
BACKENDS = ("cpu", "gpu")
MAX_GPUS = 64


def check(given: Mapping[str, str], repo: Path = checkout.REPO) -> None:
    """`ValueError` names the first setting that cannot be, what came and what was wanted."""
    _check_preset(given.get("PRESET", "demo"), given.get("ARTIFACTS", ""), repo)
    if (backend := given.get("BACKEND", "cpu")) not in BACKENDS:
        raise ValueError(f"BACKEND is {backend!r}, wanted {' or '.join(BACKENDS)}")
    _check_number(given, "GPUS", int, 1, MAX_GPUS)
    _check_number(given, "SESSIONS", int, 1, 1000)
    _check_number(given, "THREADS", int, 1, 1000)
    _check_number(given, "LAYERS", int, 1, 1000)
    _check_number(given, "HOURS", float, 0.01, 10_000)
    _check_number(given, "GPU_MEMORY_GB", float, 1, 10_000)
    texts = default_texts(given).items()
    Ports(**{name: parse_port(text, f"{name.upper()}_PORT") for name, text in texts})
    if gateway := given.get("GATEWAY_PORT", ""):
        parse_port(gateway, "GATEWAY_PORT")
    check_trace_url(given.get("TRACE_URL", ""))
    _check_artifacts(given.get("ARTIFACTS", ""))


def _check_preset(preset: str, artifacts: str, repo: Path) -> None:
    default = (f"artifacts/{preset}", f"build/artifacts/{preset}")
    if preset in PRESETS or (artifacts and artifacts not in default):
        return  # of a folder that was named, the preset is no more than a name for plans
    is_name = preset not in ("", ".", "..") and "/" not in preset
    if not (is_name and (repo / "artifacts" / preset).is_dir()):
        raise ValueError(f"PRESET is {preset!r}, wanted one of {', '.join(PRESETS)}")


def _check_number(
    given: Mapping[str, str], name: str, kind: Callable[[str], float], low: float, high: float
) -> None:
    if not (text := given.get(name, "")):
        return
    try:
        fits = low <= kind(text) <= high
    except ValueError:
        fits = False
    if not fits:
        what = "a whole number" if kind is int else "a number"
        raise ValueError(f"{name} is {text!r}, wanted {what} {low:g}..{high:g}")


def _check_artifacts(text: str) -> None:
    if len(text.split()) > 1 and Path(text).is_dir():
        raise ValueError(
            f"ARTIFACTS is {text!r}, a folder with a space; spaces separate folders there. "
            "Rename it, or link to it: ln -s"
        )


def _run() -> int:
    checkout.check_name()
    open_files.check()
    check(os.environ)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(_run))
