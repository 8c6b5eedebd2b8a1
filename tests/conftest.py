"""The real server, once for all tests that need it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.server import LocalServer

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """The demo preset behind tritonserver, on free ports."""
    from export.assemble_repository import assemble

    folder = tmp_path_factory.mktemp("server")
    assemble(ROOT / "artifacts" / "demo", folder / "repository")
    with LocalServer(folder / "repository", log_dir=folder) as running:
        yield running
