"""What `pytest --quick` runs, and what it refuses: torch, and the real server."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from typing import Any

from deploy.server.local import LocalServer

MARKERS = "not long and not slow and not triton and not gpu"


class NoTorch(MetaPathFinder):
    """To imports, torch looks as if it were not installed."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> None:
        if name == "torch":
            raise ModuleNotFoundError("a quick test imports torch", name=name)


def refuse_torch_and_server() -> None:
    """For the rest of this process: a test that needs one of them fails."""
    assert "torch" not in sys.modules, "a conftest.py imports torch"
    sys.meta_path.insert(0, NoTorch())
    LocalServer._launch = _refuse  # type: ignore[method-assign]


def _refuse(*_: object) -> None:
    raise RuntimeError("a quick test starts the server: mark it triton")
