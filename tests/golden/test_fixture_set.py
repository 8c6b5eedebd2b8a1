"""That a fixture set holds something to compare: absent parts skip their tests, not all may."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.golden.fixtures import GOLDEN_ROOT, LIVE_AVATAR
from tests.golden.rolling.fixtures import ROLLING, STREAMS, needs_rolling

NAMED = "GOLDEN_ROOT" in os.environ
CASES = ("dmd", "longlive_switch", "self_forcing", "train_rollout")
"""Folders whose config.json lists cases."""


@pytest.mark.skipif(
    not NAMED and not GOLDEN_ROOT.is_dir(), reason=f"no fixtures at {GOLDEN_ROOT}; set GOLDEN_ROOT"
)
def test_a_set_holds_tensors() -> None:
    """A mistyped GOLDEN_ROOT would pass with every test skipped."""
    found = (
        [*LIVE_AVATAR.glob("*.safetensors")] if (LIVE_AVATAR / "manifest.json").is_file() else []
    )
    found += ROLLING.glob("*/*.safetensors")
    assert found, f"no fixtures at {GOLDEN_ROOT}; GOLDEN_ROOT names the folder above live_avatar"


def configs() -> list[Path]:
    return [path for name in CASES if (path := ROLLING / name / "config.json").is_file()]


@needs_rolling
@pytest.mark.parametrize("path", configs(), ids=lambda path: path.parent.name)
def test_a_list_of_cases_is_not_empty(path: Path) -> None:
    """Its tests would have no parameters, which counts as skipped."""
    config: dict[str, Any] = json.loads(path.read_text())
    assert config["cases"], f"{path} lists no cases"


@needs_rolling
def test_every_folder_of_a_set_is_played_by_some_test() -> None:
    """A folder of a new name would be passed over."""
    known = {*STREAMS, *CASES, "primitives", "vae"}
    assert {path.name for path in ROLLING.iterdir() if path.is_dir()} <= known
    assert STREAMS, f"no streams in {ROLLING}"
