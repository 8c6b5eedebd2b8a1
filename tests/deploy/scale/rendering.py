"""Write the plain manifests that the chart renders to with its own values.

    python -m tests.deploy.scale.rendering

Needs helm-python-sdk, which `make test-scale` installs. No cluster is asked.
"""

import sys
from pathlib import Path
from typing import Any

from deploy.checkout import REPO
from deploy.outcome import exit_code, say

FOLDER = REPO / "deploy" / "kubernetes"
CHART, MANIFESTS = FOLDER / "chart", FOLDER / "manifests"
RELEASE, NAMESPACE = "live-avatar", "default"
_HEAD = "# Rendered from deploy/kubernetes/chart by `make manifests`: change that.\n"


def render(values: dict[str, Any] | None = None) -> dict[str, str]:
    """File name -> manifests, of templates that are not empty. `values` replace the chart's."""
    from helm_python import Chart

    rendered = Chart.load(CHART).render(values, name=RELEASE, namespace=NAMESPACE)
    return {
        Path(name).name: f"{_HEAD}{text.strip()}\n"
        for name, text in sorted(rendered.items())
        if text.strip() and name.endswith(".yaml")
    }


def main() -> int:
    MANIFESTS.mkdir(exist_ok=True)
    for old in MANIFESTS.glob("*.yaml"):
        old.unlink()
    for name, text in render().items():
        (MANIFESTS / name).write_text(text)
        say(f"wrote {MANIFESTS / name}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
