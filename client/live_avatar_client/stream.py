"""One gRPC bidirectional stream, opened, read by a thread of its own, and closed for certain.

`tritonclient`'s `InferenceServerClient` says nothing when the server ends a stream in good order,
and leaves a thread behind when one is cancelled: so its generated stub is used here.
"""

import contextlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from live_avatar_client import proxies
from live_avatar_client.protocol import DEFAULT_URL, MODEL, AvatarError, UnavailableError
from live_avatar_client.tls import Tls, hint, target

_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_PUBLIC = ("live_avatar", "rolling_forcing")
_WAY_OUT = "start one with `make serve`, or give the host:port of its gRPC endpoint"


def channel_options(url: str) -> list[tuple[str, int]]:
    """Without limits of size; to this machine itself a channel goes past any proxy."""
    direct = [("grpc.enable_http_proxy", 0)] if proxies.is_local(url) else []
    return [*_UNLIMITED, *direct]


def open_channel(url: str, tls: Tls | None = None) -> grpc.Channel:
    """A channel for calls that block; with TLS if it is given, or `url` begins with grpcs://."""
    address, tls = target(url, tls)
    if tls is None:
        return grpc.insecure_channel(address, options=channel_options(address))
    return grpc.secure_channel(address, tls.credentials(), options=channel_options(address))


class Health(NamedTuple):
    """What a server says of itself; `words` say what to do when the model is not ready."""

    version: str  # of Triton
    ready: bool
    model_ready: bool
    words: str


def check_health(
    url: str = DEFAULT_URL, model: str = MODEL, timeout_s: float = 5.0, tls: Tls | None = None
) -> Health:
    """Ask the server; AvatarError with the way out when none answers within `timeout_s`."""
    with open_channel(url, tls) as channel:
        return _health(channel, url, model, timeout_s, tls)


def num_sessions(
    url: str = DEFAULT_URL, model: str = MODEL, timeout_s: float = 5.0, tls: Tls | None = None
) -> int:
    """How many sessions the server's model holds at once; AvatarError when it can't be asked."""
    with open_channel(url, tls) as channel:
        health = _health(channel, url, model, timeout_s, tls)
        if not health.model_ready:
            raise AvatarError(health.words)
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelConfig(service_pb2.ModelConfigRequest(name=model), timeout=timeout_s)
    stated = answer.config.parameters["max_sessions"].string_value
    return int(stated) if stated.isdigit() else 1


def _health(
    channel: grpc.Channel, url: str, model: str, timeout_s: float, tls: Tls | None
) -> Health:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    words = _why_not_ready(stub, url, model, timeout_s, tls)
    try:
        metadata = stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=timeout_s)
        ready = stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=timeout_s)
    except grpc.RpcError as error:
        raise error_from_rpc(error, url) from None
    return Health(metadata.version, ready.ready, not words, words)


def _why_not_ready(stub: Any, url: str, model: str, timeout_s: float, tls: Tls | None) -> str:
    """Empty when the model is ready: one call, for each may reach another server of a balancer."""
    try:
        answer = stub.ModelReady(service_pb2.ModelReadyRequest(name=model), timeout=timeout_s)
    except grpc.RpcError as error:
        details = error.details() or ""
        if told := hint(details, target(url, tls)[1]):
            raise AvatarError(f"no session with {url}: {told}") from None
        raise error_from_rpc(error, url) from None
    if answer.ready:
        return ""
    words = f"the server at {url} is up, but model {model!r} is not ready"
    with contextlib.suppress(grpc.RpcError):
        asked = [(name, service_pb2.ModelReadyRequest(name=name)) for name in _PUBLIC]
        served = [name for name, a in asked if stub.ModelReady(a, timeout=timeout_s).ready]
        words += f"; it serves {' and '.join(served) or 'no model for clients'}"
    return words


def error_from_rpc(error: Any, url: str) -> AvatarError:
    """What went wrong in a call, with the way out where no server answers."""
    code, details = error.code(), error.details() or ""
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return UnavailableError(
            f"no server answers at {url} ({code.name.lower()}: {details}); "
            + (proxies.hint(url) or _WAY_OUT)
        )
    return UnavailableError(f"the stream to {url} broke ({code.name.lower()}): {details}")


@dataclass(kw_only=True, eq=False)
class Stream:
    """A `ModelStreamInfer` call.

    `on_response(message)` is called from the reading thread for every `ModelStreamInferResponse`,
    `on_end(error)` once when nothing more can come: with None after an end in good order.
    """

    url: str
    model: str
    connect_timeout_s: float
    on_response: Callable[[Any], None]
    on_end: Callable[[AvatarError | None], None]
    tls: Tls | None = None

    def __post_init__(self) -> None:
        self._channel = open_channel(self.url, self.tls)
        stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        given = (self.url, self.model, self.connect_timeout_s, self.tls)
        try:
            if words := _why_not_ready(stub, *given):
                raise UnavailableError(words)
        except AvatarError:
            self._channel.close()
            raise
        self.is_over = False  # nothing more can come
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._call = stub.ModelStreamInfer(iter(self._requests.get, None))
        self._reader = threading.Thread(target=self._read, name="avatar-reader", daemon=True)
        self._reader.start()

    def send(self, request: Any) -> None:
        """Queue one `ModelInferRequest`; what goes wrong arrives through `on_end`."""
        self._requests.put(request)

    def cancel(self) -> None:
        """Drop the call at once, from any thread; the server sees its requests cancelled."""
        self._call.cancel()
        self._requests.put(None)

    def close(self, grace_s: float = 2.0) -> None:
        """Say that no request follows, give the server `grace_s` to hang up, then cancel."""
        self._requests.put(None)
        self._reader.join(grace_s)
        self.cancel()
        self._reader.join(grace_s)
        self._channel.close()

    def _read(self) -> None:
        error: AvatarError | None = None
        try:
            for message in self._call:
                self.on_response(message)
        except grpc.RpcError as rpc_error:
            error = error_from_rpc(rpc_error, self.url)
        except Exception as unexpected:
            error = AvatarError(f"an answer of {self.url} could not be read: {unexpected!r}")
        finally:
            self._requests.put(None)
            self.is_over = True
            self.on_end(error)
