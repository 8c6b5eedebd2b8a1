"""One gRPC bidirectional stream for an event loop."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from tritonclient.grpc import service_pb2_grpc

from live_avatar_client.protocol import AvatarError
from live_avatar_client.stream import channel_options, check_health, error_from_rpc


class Connection:
    """A `ModelStreamInfer` call. Made and used in one event loop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._requests: asyncio.Queue[Any] = asyncio.Queue()
        self._channel = grpc.aio.insecure_channel(url, options=channel_options(url))
        stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._call = stub.ModelStreamInfer(self._outgoing())

    @classmethod
    async def open(cls, url: str, model: str, timeout_s: float) -> "Connection":
        """AvatarError with the way out when no server answers, or its model is not ready."""
        health = await asyncio.to_thread(check_health, url, model, timeout_s)
        if not health.model_ready:
            raise AvatarError(health.words)
        return cls(url)

    def send(self, request: Any) -> None:
        """Queue one `ModelInferRequest`; what goes wrong is raised by `messages`."""
        self._requests.put_nowait(request)

    async def messages(self) -> AsyncIterator[Any]:
        """Every `ModelStreamInferResponse`; AvatarError when the stream breaks."""
        try:
            async for message in self._call:
                yield message
        except grpc.RpcError as error:
            raise error_from_rpc(error, self._url) from None

    def cancel(self) -> None:
        """Drop the call at once; the server sees its requests cancelled."""
        self._call.cancel()

    async def close(self) -> None:
        """Cancel what is left, and let go of the channel."""
        self._call.cancel()
        self._requests.put_nowait(None)
        await self._channel.close()

    async def _outgoing(self) -> AsyncIterator[Any]:
        while (request := await self._requests.get()) is not None:
            yield request
