"""What a collector gets of a block, and that nobody waits for one."""

import time

import pytest

from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.sessions.tracing import BlockTrace, Pass, Tracer
from tests.pipeline.sessions.trace_receiver import receiver
from tests.support.fake_executor import FakeReply, request

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def test_a_block_and_its_models_are_children_of_the_request(avatar: AvatarOrchestrator) -> None:
    """Nobody would see which model a slow block waited for."""
    with receiver() as collector:
        avatar.tracer = Tracer(collector.url, "live_avatar")
        before_ns = time.time_ns()
        reply = FakeReply()
        reply.traceparent = PARENT
        avatar.submit(request(5, start=True, end=True, blocks=2), reply)
        assert reply.wait() == ""
        avatar.tracer.stop()
        blocks = collector.named("block")
        assert [block["parentSpanId"] for block in blocks] == [SPAN, SPAN]
        for number, block in enumerate(blocks):
            figures = {a["key"]: a["value"]["intValue"] for a in block["attributes"]}
            assert figures == {"avatar.session": "5", "avatar.block": str(number)}
            parts = collector.children(block)
            names = ["audio", "stage 0", "stage 1", "stage 2", "stage 3", "decoder"]
            assert [part["name"] for part in parts] == names
            times = [int(part[f"{end}TimeUnixNano"]) for part in parts for end in ("start", "end")]
            assert sorted(times) == times
            assert int(block["startTimeUnixNano"]) == times[0]
            assert before_ns < times[0] < times[-1] < int(block["endTimeUnixNano"])
            assert int(block["endTimeUnixNano"]) < time.time_ns()
        assert {span["traceId"] for span in collector.spans} == {TRACE}
        assert len({span["spanId"] for span in collector.spans}) == len(collector.spans) == 14


def test_a_request_that_is_not_traced_makes_no_spans(avatar: AvatarOrchestrator) -> None:
    """A sampled rate would be sent in full."""
    with receiver() as collector:
        avatar.tracer = Tracer(collector.url, "live_avatar")
        reply = FakeReply()
        avatar.submit(request(5, start=True, end=True, blocks=2), reply)
        assert reply.wait() == ""
        avatar.tracer.stop()
        assert collector.spans == []


def test_without_a_collector_traces_are_lost_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A session would wait for a program that only watches."""
    tracer = Tracer("http://127.0.0.1:1/v1/traces", "live_avatar")
    passes = (Pass("stage 0", 1.0, 2.0),)
    tracer.record(BlockTrace(parent=PARENT, session=1, block=0, passes=passes, ended_s=3.0))
    tracer.stop()
    assert "2 spans are lost, no collector takes them" in caplog.text


def test_an_address_that_is_none_is_refused() -> None:
    """It would be found out by missing traces."""
    with pytest.raises(ValueError, match="'localhost:4318', wanted http://HOST:PORT/v1/traces"):
        Tracer("localhost:4318", "live_avatar")
