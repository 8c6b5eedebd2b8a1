"""What a model sees of the server that runs it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.triton.parent_server import is_listening, may_unload


@pytest.mark.parametrize(
    ("command", "may"),
    [
        (b"tritonserver\0--model-control-mode=explicit\0--load-model=*\0", True),
        (b"tritonserver\0--model-control-mode\0explicit\0", True),
        (b"tritonserver\0--model-control-mode=poll\0", False),
        (b"tritonserver\0--model-repository=explicit\0", False),
    ],
)
def test_only_a_server_in_explicit_mode_is_asked_to_unload(
    tmp_path: Path, command: bytes, may: bool
) -> None:
    """Triton 2.51 may end when it refuses to."""
    (tmp_path / "cmdline").write_bytes(command)
    assert may_unload(tmp_path) is may


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def test_a_listening_server_is_told_from_one_that_still_starts(
    family: socket.AddressFamily,
) -> None:
    """A model that is loaded by hand would end itself while its holders are on their way."""
    ourselves = Path(f"/proc/{os.getpid()}")
    with socket.socket(family) as found:
        try:
            found.bind(("localhost", 0))
        except OSError:
            pytest.skip("this machine has no such addresses")
        assert not is_listening(ourselves)  # bound, as a client's socket may be
        found.listen()
        assert is_listening(ourselves)
        code = "from pipeline.triton.parent_server import is_listening; print(is_listening())"
        child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert child.stdout == "True\n"
    assert not is_listening(ourselves)


def test_a_server_that_cannot_be_seen_counts_as_started(tmp_path: Path) -> None:
    """To wait for ever is mended by loading a model; to leave is not."""
    assert is_listening(tmp_path / "gone")
    for name in ("fd", "net"):
        (tmp_path / name).mkdir()
    assert is_listening(tmp_path)
    assert not may_unload(tmp_path / "gone")
