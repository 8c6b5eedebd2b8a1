"""The chart's Envoy lets no client take more than its share; a stand-in answers behind it."""

import http.client
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

pytest.importorskip("envoy", reason="no Envoy here: make test-scale")

from deploy.server.ports import free_ports
from deploy.server.supervisor import serve_readiness
from live_avatar_client import AvatarError, Session
from tests.deploy.scale.balancer import balancing, chart_configuration
from tests.support.fake_avatar_server import FakeAvatar, serving
from tests.support.raw_stream import IMAGE
from tests.support.waiting import happens

READY = "/inference.GRPCInferenceService/ModelReady"
OTHER = "127.0.0.2"
"""Another client's address."""


def clients() -> dict[str, int]:
    """The limits as the manifests have them."""
    (listener,) = chart_configuration()["static_resources"]["listeners"]
    connections, calls = (f["typed_config"] for f in listener["filter_chains"][0]["filters"])
    (bucket,) = (d["token_bucket"] for d in calls["http_filters"][0]["typed_config"]["descriptors"])
    return {
        "at_once": bucket["max_tokens"],
        "per_s": bucket["tokens_per_fill"],
        "streams": calls["http2_protocol_options"]["max_concurrent_streams"],
        "connections": connections["max_connections"],
    }


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """An Envoy of its own, whose buckets are full."""
    with serving(FakeAvatar()) as served:
        ports = replace(free_ports(), grpc=int(served.rpartition(":")[2]))
        readiness = serve_readiness(ports, lambda: "", lambda: "")
        try:
            with balancing(tmp_path, [ports]) as url:
                assert happens(lambda: asked(url, OTHER) == 200, 20), "the server is not there"
                yield url
        finally:
            readiness.shutdown()
            readiness.server_close()


def asked(url: str, source: str, path: str = READY) -> int:
    """Status of a call from an address; 429 becomes a status of gRPC, in a header."""
    host, _, port = url.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=5, source_address=(source, 0))
    try:
        kind = {} if path == "/alive" else {"content-type": "application/grpc", "te": "trailers"}
        name = b"live_avatar"
        message = service_pb2.ModelReadyRequest(name=name.decode()).SerializeToString()
        body = b"\0" + len(message).to_bytes(4, "big") + message
        connection.request("GET" if path == "/alive" else "POST", path, body, kind)
        answer = connection.getresponse()
        refused = answer.getheader("grpc-status") == str(
            grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        )
        return 429 if refused else answer.status
    finally:
        connection.close()


@contextmanager
def stub(url: str) -> Iterator[Any]:
    with grpc.insecure_channel(url) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def flooded(url: str) -> Any:
    """Call until it is refused."""
    request = service_pb2.ModelReadyRequest(name="live_avatar")
    with stub(url) as calls:
        for _ in range(clients()["at_once"] + 20 * clients()["per_s"]):
            try:
                calls.ModelReady(request, timeout=10)
            except grpc.RpcError as error:
                return error
    raise AssertionError("nobody was refused")


def test_a_client_that_floods_is_refused_in_words_and_others_are_not(url: str) -> None:
    """One program in a loop would be everybody's outage."""
    error = flooded(url)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    wanted = f"too many calls from this address, at most {clients()['per_s']} in a second"
    assert wanted in error.details()
    assert 429 in [asked(url, "127.0.0.1") for _ in range(2 * clients()["at_once"])]
    assert asked(url, OTHER) == 200
    assert asked(url, "127.0.0.1", "/alive") == 200, "the proxy would be started anew"


def test_a_header_makes_nobody_another_client(url: str) -> None:
    """Whoever names a new address with each call would have no limit."""
    request = service_pb2.ModelReadyRequest(name="live_avatar")
    codes = []
    with stub(url) as calls:
        for number in range(3 * clients()["at_once"]):
            named = (("x-forwarded-for", f"10.0.0.{number}"),)
            called = calls.ModelReady.future(request, timeout=10, metadata=named)
            codes.append(called.code())
    assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes


def test_a_session_that_was_refused_for_a_flood_is_served_a_moment_later(url: str) -> None:
    """The visitor would be sent away for what a program beside him did."""
    flooded(url)
    with pytest.raises(AvatarError, match="too many calls from this address"):
        Session(url=url, image=IMAGE.tobytes()).open()
    time.sleep(1.5)
    with Session(url=url, image=IMAGE.tobytes(), resume=True) as session:
        session.finish()
        assert list(session) == []
