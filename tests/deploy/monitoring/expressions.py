"""What the rules, alerts and panels of `deploy/monitoring` ask Prometheus."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[3] / "deploy" / "monitoring"


def rules(name: str) -> list[dict[str, Any]]:
    """The rules of a file."""
    groups = yaml.safe_load((FOLDER / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> dict[str, str]:
    """What asks -> the expression."""
    found = {rule.get("alert") or rule["record"]: rule["expr"] for rule in RULES + ALERTS}
    panels = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    for panel in panels:
        for target in panel.get("targets", []):
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    return found


def metrics_in(expression: str) -> set[str]:
    """The metrics that an expression names, recorded ones (`avatar:…`) too."""
    return set(re.findall(r"\b(?:avatar[_:][\w:]+|nv_\w+|up)\b", expression))


RULES = rules("rules.yaml")
ALERTS = rules("alerts.yaml")
