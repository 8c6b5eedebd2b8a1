"""Without the frameworks, which nobody has by chance."""

import importlib
import sys

import pytest


@pytest.mark.parametrize(
    ("extra", "loaded"), [("pipecat", "pipecat.frames.frames"), ("livekit", "livekit.rtc")]
)
def test_a_missing_framework_is_named_with_the_way_to_install_it(
    extra: str, loaded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client works without it, so it is met here first."""
    for name in (extra, loaded):
        monkeypatch.setitem(sys.modules, name, None)
    module = f"live_avatar_client.agents.{extra}"
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(ImportError, match=rf"pip install 'live-avatar-client\[{extra}\]'"):
        importlib.import_module(module)
