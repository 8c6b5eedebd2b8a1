"""The fixtures' network as it is served: exported once for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.graphs.exporter import export_preset
from tests.golden.fixtures import preset, write_weights


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifacts folder of the `golden` preset, RoPE tables rounded as in the release."""
    folder = tmp_path_factory.mktemp("golden")
    write_weights(folder / "weights")
    export_preset(preset(), folder / "weights", folder / "artifacts")
    return folder / "artifacts"
