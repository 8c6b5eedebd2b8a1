"""How streams are judged, and what the shipped model has to reach: train/rolling/gates.toml."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from train.evaluate.gates import Gate
from train.evaluate.metrics import LEVEL, UNKNOWN, Estimate, Runs, listed

FILE = Path(__file__).parents[1] / "gates.toml"
METRICS = listed(Path(__file__).with_name("metrics.toml"))
JUDGED = {"drift": "drift_300s", "sharpness": "sharpness_300s"}
"""Gates that are called otherwise than their metric."""
SERVED = ("frames_per_second", "first_frame_s", "megabytes", "grey_levels")
"""Gates that are measured on the server, not here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How much is judged."""

    split: str
    prompts: int
    seeds: int
    horizons_s: list[int]
    interval: float

    def __post_init__(self) -> None:
        if self.interval != LEVEL:
            raise ValueError(f"interval is {self.interval}, what is computed is {LEVEL}")


def protocol(path: Path = FILE) -> Protocol:
    return Protocol(**tomllib.loads(path.read_text())["protocol"])


def gates(
    runs: Runs, measured: Mapping[str, float] | None = None, path: Path = FILE
) -> dict[str, Gate]:
    """Every gate by its name, for one model; `measured` are figures of `SERVED`. ValueError names
    what is not understood."""
    found = {name: Estimate(value, value, value) for name, value in (measured or {}).items()}
    if unknown := sorted(set(found) - set(SERVED)):
        raise ValueError(f"measured is {unknown[0]!r}, wanted one of {', '.join(SERVED)}")
    metrics = {metric.name: metric for metric in METRICS}
    judged = {}
    for row in tomllib.loads(path.read_text())["gates"]:
        name, low, high = row["name"], row.get("low", -np.inf), row.get("high", np.inf)
        if low == -np.inf and high == np.inf:
            raise ValueError(f"gate {name} has neither low nor high")
        if name not in SERVED:
            found[name] = metrics[JUDGED.get(name, name)].estimate(runs)
        title = f"{name.replace('_', ' ')}: {row['about']}"
        judged[name] = Gate(title, low, high, found.get(name, UNKNOWN))
    return judged


def read_measured(path: Path | None) -> dict[str, float]:
    """Figures of the server from a JSON object of numbers; none without a file."""
    if path is None:
        return {}
    found = json.loads(path.read_text())
    return {name: float(value) for name, value in found.items()}
