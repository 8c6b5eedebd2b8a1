"""Losses and roll-outs need PyTorch: where it is missing, none of these tests is collected."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Nothing is skipped in silence."""
    if collect_ignore_glob:
        terminalreporter.write_line("SKIPPED tests/golden/train: the training part needs torch")
