"""What a real server's log has of bad requests."""

import json
import time

import numpy as np
import pytest

from deploy.server.local import LocalServer
from tests.support.raw_stream import IMAGE, Stream

pytestmark = pytest.mark.triton
PER_10_S = 20  # lines of a kind (pipeline/triton/log.py)


def logged(server: LocalServer, since: int) -> list[str]:
    return server.log.read_bytes()[since:].decode(errors="replace").splitlines()


def asked(server: LocalServer, **tensors: np.ndarray) -> str:
    """The error of a START."""
    stream = Stream(server)
    _, error = stream.ask(start=True, end=True, **tensors)
    stream.close()
    return error


def test_deep_options_are_refused_without_a_traceback(server: LocalServer) -> None:
    """Each request of a stranger could write a page of log."""
    since = server.log.stat().st_size
    deep = np.frombuffer(b"[" * 16_000, np.uint8)
    assert "nested too deeply" in asked(server, image=IMAGE, options=deep)
    assert "at most 16384 are taken" in asked(server, image=IMAGE, options=np.tile(deep, 7))
    assert not [line for line in logged(server, since) if "Traceback" in line]


def test_a_flood_of_bad_requests_does_not_flood_the_log(server: LocalServer) -> None:
    """The disk would be full in the morning."""
    since, began = server.log.stat().st_size, time.monotonic()
    bad = np.frombuffer(json.dumps({"no": "picture"}).encode(), np.uint8)
    refusals = [asked(server, image=bad) for _ in range(60)]
    assert all(refusals)
    lines, took_s = logged(server, since), time.monotonic() - began
    fails = [line for line in lines if " refused: " in line]
    assert fails
    assert all("session " in line for line in fails)
    assert len(fails) <= PER_10_S * (took_s // 10 + 1)
    print(f"60 bad STARTs in {took_s:.1f} s: {len(lines)} lines of log")
