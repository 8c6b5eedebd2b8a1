"""`make gateway` beside another server."""

from pathlib import Path

import pytest

from deploy import gateway


def test_a_server_that_shows_something_else_is_no_server_for_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asked for films got faces, without a word."""
    for folder in ("faces/live_avatar", "films/rolling_forcing"):
        (tmp_path / folder).mkdir(parents=True)
    served = ("127.0.0.1:8001", tmp_path / "faces")
    monkeypatch.setattr(gateway, "server_left_running", lambda: served)
    monkeypatch.setattr(gateway, "gateway", lambda url, port: 0)
    assert gateway.run(tmp_path / "faces", 8080) == 0
    with pytest.raises(RuntimeError, match=r"no rolling_forcing: it serves .*\n  Fix: make stop"):
        gateway.run(tmp_path / "films", 8080)
