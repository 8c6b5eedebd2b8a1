"""Without the frameworks, which nobody has by chance."""

import importlib
import sys

import pytest


def test_a_missing_framework_is_named_with_the_way_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client works without it, so it is met here first."""
    for name in ("pipecat", "pipecat.frames.frames"):  # the second one may be loaded
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "live_avatar_client.agents.pipecat", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'live-avatar-client\[pipecat\]'"):
        importlib.import_module("live_avatar_client.agents.pipecat")
