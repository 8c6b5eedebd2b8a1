"""What contributors are told to do is there: hooks, goals, paths; one version."""

import importlib.util
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
HOOKS = [
    hook
    for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    for hook in repo["hooks"]
]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
MOST_FILES = 22


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_hooks_run_modules_of_the_environment(hook: dict[str, str]) -> None:
    """A hook that needs a network, or another ruff than `make lint`, would stop commits."""
    python, flag, module, *_ = hook["entry"].split()
    assert (hook["language"], python, flag) == ("system", ".venv/bin/python3", "-m")
    assert importlib.util.find_spec(module)


def test_the_guide_names_goals_and_paths_that_are_there() -> None:
    """A newcomer's first command would fail."""
    goals = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z][a-z-]+)", GUIDE)) <= goals
    named = re.findall(r"`([\w.*-]+/[\w./*-]*)`", GUIDE)
    assert len(named) > 10
    made = {".venv/bin/python3", "out/demo.mp4"}
    assert [name for name in named if name not in made and not list(ROOT.glob(name))] == []


def test_the_guide_names_every_marker() -> None:
    """A test that starts the server unmarked slows everybody's quick loop."""
    markers = [text.split(":")[0] for text in SETTINGS["tool"]["pytest"]["ini_options"]["markers"]]
    assert [name for name in markers if f"| `{name}` |" not in GUIDE] == []


def test_the_version_stands_in_one_place() -> None:
    """Two would differ after the first release."""
    assert "version" not in SETTINGS["project"]
    assert SETTINGS["project"]["dynamic"] == ["version"]


def test_no_folder_has_more_files_than_one_can_survey() -> None:
    """Forty files side by side are a list, and no order."""
    tops = ("pipeline", "networks", "export", "train", "client", "deploy", "benchmarks", "tests")
    counts = Counter(path.parent for top in tops for path in (ROOT / top).rglob("*.py"))
    assert {str(folder): n for folder, n in counts.items() if n > MOST_FILES} == {}
