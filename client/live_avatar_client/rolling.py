"""Text to video from the `rolling_forcing` model: a prompt goes up, blocks of video come down.

The owner of the tensors is `model_repository/rolling_forcing/config.pbtxt`; a test compares.
"""

import contextlib
import math
import queue
import time
from collections.abc import Iterator, Mapping
from typing import Any

from live_avatar_client import protocol
from live_avatar_client.protocol import Array, AvatarError, Block, TensorSpec, Wire
from live_avatar_client.requests import condition, integer, start_tensors
from live_avatar_client.stream import Stream
from live_avatar_client.tls import Tls

ROLLING_MODEL = "rolling_forcing"
ROLLING_FPS = 16
FRAMES_PER_BLOCK, FRAMES_MISSING = 12, 3
"""A stream's first block has three frames less: its first latent is one frame, the others four."""
ROLLING_TIMINGS = ("total", "queued", "vae_decoder", "dit_window")
ROLLING_INPUTS: Mapping[str, TensorSpec] = {
    **{name: protocol.INPUTS[name] for name in ("prompt", "seed", "options", "text")},
    "num_blocks": TensorSpec(datatype="INT64", dims=(1,)),
    "received": TensorSpec(datatype="INT64", dims=(1,)),
    "noise": TensorSpec(datatype="FP32", dims=(-1, -1, -1, -1, -1, -1)),
}
_FAREWELL_S = 1.0  # how long closing waits for the answer to its END


def blocks_before(seconds: float) -> int:
    """Blocks that start before this time of a video; the next one starts at it or after."""
    frames = max(0.0, seconds) * ROLLING_FPS
    return math.ceil((frames + FRAMES_MISSING) / FRAMES_PER_BLOCK - 1e-9) if frames else 0


class VideoStream:
    """One text-to-video stream; a context manager, used by one thread.

    Nothing is made that `blocks` has not asked for. `prompt` is text; `text` float32
    [rows, text_dim] an already encoded one. `options` is sent as JSON, e.g. {"blocks": 12},
    {"seconds": 9.5}, {"rules": "self_forcing"}. `timeout_s`: the longest silence of a server that
    owes an answer. `tls`: what a server with TLS is to be trusted by.

    Raises ValueError for unfit arguments, AvatarError for what the server or the network did,
    RuntimeError for calls at the wrong moment.
    """

    def __init__(
        self,
        *,
        prompt: str | None = None,
        text: Array | None = None,
        seed: int | None = None,
        options: Mapping[str, Any] | None = None,
        url: str = protocol.DEFAULT_URL,
        model: str = ROLLING_MODEL,
        want_latent: bool = False,
        connect_timeout_s: float = 5.0,
        timeout_s: float = 60.0,
        tls: Tls | None = None,
    ) -> None:
        self._url, self._timeout_s, self._connect_timeout_s = url, timeout_s, connect_timeout_s
        self._tls = tls
        self._wire = Wire(
            model=model,
            inputs=ROLLING_INPUTS,
            outputs=protocol.DEFAULT_OUTPUTS,
            timings=ROLLING_TIMINGS,
            want_latent=want_latent,
        )
        self._start: dict[str, Array] | None = start_tensors(
            prompt=prompt, text=text, seed=seed, options=options
        )
        self._wire.check(self._start)
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stream: Stream | None = None
        self._num_sent = 0
        self._open = 0
        self._ended = False
        self._num_blocks = self._num_frames = 0

    def __enter__(self) -> "VideoStream":
        self.open()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def open(self) -> None:
        """Connect; the first `blocks` or `finish` carries START."""
        if self._stream is not None:
            raise RuntimeError("this stream was opened before; make a new one per video")
        self._stream = Stream(
            url=self._url,
            model=self._wire.model,
            connect_timeout_s=self._connect_timeout_s,
            on_response=lambda message: self._answers.put((message, time.perf_counter())),
            on_end=self._answers.put,
            tls=self._tls,
        )

    def blocks(
        self,
        num_blocks: int,
        *,
        prompt: str | None = None,
        text: Array | None = None,
        noise: Array | None = None,
    ) -> Iterator[Block]:
        """Ask for so many blocks more and yield them as they arrive.

        From the first of them on the video shows `prompt` (or `text`). `noise` float32
        [n, levels, C, F, h, w] is for parity: that of the next n blocks to enter.
        """
        return self._ask(num_blocks, condition(prompt, text), noise, end=False)

    def finish(
        self,
        num_blocks: int | None = None,
        *,
        prompt: str | None = None,
        text: Array | None = None,
        noise: Array | None = None,
    ) -> Iterator[Block]:
        """End the stream and yield so many blocks; with None the rest of a stream whose length
        `options` gave, or else the blocks in flight."""
        return self._ask(num_blocks, condition(prompt, text), noise, end=True)

    def close(self) -> None:
        """End the stream and free the server's place; what is still being made is cancelled."""
        if self._stream is None:
            return
        try:
            if self._num_sent and not self._ended and not self._open:
                # Nothing is owed that a cancellation would save: END is the polite way.
                self._timeout_s = min(self._timeout_s, _FAREWELL_S)
                with contextlib.suppress(AvatarError):  # the place is free, too
                    list(self.finish(0))
        finally:
            stream, self._stream = self._stream, None
            if self._open:
                stream.cancel()
            stream.close()

    def _ask(
        self, num_blocks: int | None, tensors: dict[str, Array], noise: Array | None, *, end: bool
    ) -> Iterator[Block]:
        if self._stream is None:
            raise RuntimeError("the stream is not open: use `with VideoStream(...) as stream`")
        if self._ended:
            raise RuntimeError("this stream has ended, open a new one")
        if num_blocks is not None:
            tensors["num_blocks"] = integer("num_blocks", num_blocks)
        if noise is not None:
            tensors["noise"] = noise
        if self._start is not None and not end:  # START goes ahead: it is held until the end
            told = {name: tensors.pop(name) for name in ("prompt", "text") if name in tensors}
            self._send(self._start | told, start=True)
            self._start = None
        number = self._send((self._start or {}) | tensors, start=self._start is not None, end=end)
        self._start, self._ended = None, end
        self._open += 1
        return self._until_final(number)

    def _send(self, tensors: Mapping[str, Array], *, start: bool = False, end: bool = False) -> str:
        """The id of the request that went out."""
        assert self._stream is not None
        request = self._wire.request(tensors, self._num_sent, start=start, end=end)
        self._num_sent += 1
        self._stream.send(request)
        return str(request.id)

    def _until_final(self, number: str) -> Iterator[Block]:
        while True:
            try:
                answer = self._answers.get(timeout=self._timeout_s)
            except queue.Empty:
                raise AvatarError(
                    f"the server at {self._url} was silent for {self._timeout_s:g} s after "
                    f"{self._num_blocks} blocks"
                ) from None
            if answer is None or isinstance(answer, AvatarError):
                self._open, self._ended = 0, True
                raise answer or AvatarError(f"the server at {self._url} ended the stream")
            message, received_s = answer
            if message.error_message:
                self._open -= 1
                raise AvatarError(message.error_message)
            block = self._wire.block_from(message.infer_response, received_s)
            if block is not None:
                block.check_order(self._num_blocks, self._num_frames)
                self._num_blocks += 1
                self._num_frames += len(block.frames)
                yield block
            if protocol.is_final(message.infer_response) and message.infer_response.id == number:
                self._open -= 1
                return
