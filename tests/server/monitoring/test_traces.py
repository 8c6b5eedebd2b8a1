"""A collector gets the way of a block through its models, from a real server."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deploy.server.local import LocalServer
from export.repository.assemble import assemble
from tests.pipeline.sessions.trace_receiver import Receiver, receiver
from tests.support.raw_stream import IMAGE, Stream
from tests.support.waiting import happens

pytestmark = [
    pytest.mark.triton,
    pytest.mark.slow,
]  # short: sessions/test_tracing
DEMO = Path(__file__).parents[3] / "artifacts" / "demo"


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalServer, Receiver]]:
    """A server that sends its traces there."""
    folder = tmp_path_factory.mktemp("traced")
    repository = assemble(DEMO, folder / "repository", steps="0,1 2,3")
    with (
        receiver() as collector,
        LocalServer(repository, log_dir=folder / "log", trace_url=collector.url) as server,
    ):
        yield server, collector


def test_a_block_is_traced_from_the_request_to_the_decoder(
    traced: tuple[LocalServer, Receiver],
) -> None:
    """Which model a slow block waited for would be guessed at."""
    server, collector = traced
    stream = Stream(server)
    assert stream.ask(start=True, image=IMAGE) == (0, "")
    assert stream.ask(audio=np.zeros(3 * 7680, np.float32)) == (2, "")
    assert stream.ask(end=True) == (1, "")
    stream.close()
    assert happens(lambda: len(collector.named("block")) == 3, 10)
    assert happens(lambda: len(collector.named("live_avatar")) == 3, 20)  # Triton sends in batches
    requests = {span["spanId"]: span for span in collector.named("live_avatar")}
    for block in collector.named("block"):
        request = requests[block["parentSpanId"]]
        assert block["traceId"] == request["traceId"]
        assert int(block["startTimeUnixNano"]) > int(request["startTimeUnixNano"])
        assert [part["name"] for part in collector.children(block)] == [
            "audio",
            "stage 0",
            "stage 1",
            "decoder",
        ]


def test_traces_of_interrupted_and_abandoned_sessions_harm_nobody(
    traced: tuple[LocalServer, Receiver],
) -> None:
    """Triton's own trace, passed on to the models, ended with its request: the server was gone."""
    server, collector = traced
    collector.spans.clear()
    before = memory_mb(server.pid)
    for number in range(30):
        stream = begun(server)
        stream.send(audio=np.zeros(6 * 7680, np.float32))
        time.sleep(0.05 * (number % 8))
        stream.send(interrupt=np.array([-1]), audio=np.zeros(2 * 7680, np.float32))
        if number % 2:
            stream.answer()
            stream.answer()
            stream.send(end=True)
            stream.answer()
        stream.close()
    assert server._process is not None
    assert server._process.poll() is None
    assert happens(lambda: bool(collector.named("block")), 10)
    print(f"tritonserver {before} -> {memory_mb(server.pid)} MB, {len(collector.spans)} spans")
    assert memory_mb(server.pid) - before < 60


def begun(server: LocalServer) -> Stream:
    """A stream with a session, once there is a place."""
    deadline = time.monotonic() + 20
    while True:
        stream = Stream(server)
        if (answer := stream.ask(start=True, image=IMAGE)) == (0, ""):
            return stream
        stream.close()
        assert time.monotonic() < deadline, answer
        time.sleep(0.1)


def memory_mb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmRSS")]
    return int(line.split()[1]) // 1024
