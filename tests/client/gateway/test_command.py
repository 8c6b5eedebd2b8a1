"""`live-avatar gateway` and `live-avatar token` on the command line."""

import re
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from live_avatar_client.gateway.tokens import check_token
from tests.support.command_line import ended, here, started

pytestmark = pytest.mark.long
GATEWAY = ("gateway", "--max-visitors", "1", "--port", "0")


@pytest.mark.parametrize(
    ("options", "words"),
    {
        "half of TLS": (("--tls-cert", "cert.pem"), "come together"),
        "TLS without files": (("--tls-cert", "no.pem", "--tls-key", "no.pem"), "No such file"),
        "no server of ICE": (("--stun", "http://x"), "stun:host:3478"),
        "TURN without a name": (("--turn", "turn:x:1"), "--turn-user"),
        "no portraits": (("--portraits", "no/such/folder"), "not a folder"),
        "no secret": (("--token-secret", "no.txt"), "is not a file"),
        "a program in half a quote": (("--say-program", "say 'x"), "--say-program"),
        "no origin": (("--origin", "example.org"), "https://example.org"),
        "no address": (("--host", "192.0.2.254"), "--host"),
    }.values(),
)
def test_what_cannot_be_is_one_line_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, capsys, options: tuple[str, ...], words: str
) -> None:
    """It would show with the first visitor, as a traceback in a log."""
    code, said = here(monkeypatch, capsys, *GATEWAY, *options)
    assert (code, said.count("\n")) == (1, 1), said
    assert words in said


def test_a_taken_port_is_told(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """The most usual mistake: another gateway runs."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, said = here(monkeypatch, capsys, *GATEWAY[:3], "--port", port)
    assert code == 1
    assert f"127.0.0.1:{port} can't be listened at" in said


def test_without_its_packages_the_gateway_names_them(
    monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """The client is installed without the extra by most."""
    for name in [name for name in sys.modules if name.startswith("live_avatar_client.gateway")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    code, said = here(monkeypatch, capsys, *GATEWAY)
    assert code == 1
    assert "live-avatar-client[gateway]" in said


def test_no_server_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """A gateway that knows no number of places would have none."""
    code, said = here(monkeypatch, capsys, "gateway", "--url", "127.0.0.1:1", "--port", "0")
    assert code == 1
    assert "make serve" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_good_order(number: signal.Signals) -> None:
    """Exit code 0, no traceback: whoever supervises it would call it a crash."""
    process = started(*GATEWAY)
    watchdog = threading.Timer(30, process.kill)
    watchdog.start()
    said = process.stderr.readline().decode()
    assert re.search(r"open http://127\.0\.0\.1:\d+/ for one visitor", said), said
    process.send_signal(number)
    assert ended(process) == (0, "")
    watchdog.cancel()


def test_a_token_from_the_command_line_opens_the_door(
    monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path
) -> None:
    """The newline at a file's end is no part of the secret."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"sixteen bytes or more\n")
    monkeypatch.setattr(
        sys, "argv", ["live-avatar", "token", "--token-secret", str(secret), "--minutes", "1"]
    )
    from live_avatar_client.command.cli import main

    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    given = capsys.readouterr().out.strip()
    check_token(b"sixteen bytes or more", given, time.time() + 55)
    with pytest.raises(PermissionError):
        check_token(b"sixteen bytes or more", given, time.time() + 65)
