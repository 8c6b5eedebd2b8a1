"""Between Triton and the pipeline: replies to clients, and calls of the other models (BLS).

A session's id is the correlation id of every request; START and END are Triton's sequence flags.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import triton_python_backend_utils as pb

from pipeline.identity.examination import NOT_READY, Examination
from pipeline.identity.holders import OUTPUT, Identity
from pipeline.sessions.session import BlockFrames

logger = logging.getLogger(__name__)

START = pb.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START
END = pb.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END
ALL_SESSIONS = 0
"""No session has this id; END of it closes all that a stage or the decoder holds."""
FINAL = pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL
OUT_OF_ORDER = "out of order"
"""How a device's answer begins when a block has overtaken the one before it."""
RETRY_S, GIVE_UP_S = 0.001, 60.0


class TritonReply:
    """The response sender of one request."""

    def __init__(self, request: Any) -> None:
        self._sender = request.get_response_sender()
        self._wanted = set(request.requested_output_names())
        self.is_held = json.loads(request.parameters() or "{}").get("hold") is True

    def send(self, block: BlockFrames) -> None:
        outputs = {
            "frames": block.frames,
            "frame_index": np.array([block.frame_index], np.int64),
            "block": np.array([block.block], np.int64),
            "timings_ms": block.timings_ms,
            "latent": block.latent,
        }
        tensors = [pb.Tensor(n, array) for n, array in outputs.items() if n in self._wanted]
        self._sender.send(pb.InferenceResponse(tensors))

    def finish(self) -> None:
        self._sender.send(flags=FINAL)

    def fail(self, message: str) -> None:
        response = pb.InferenceResponse(error=pb.TritonError(message))
        self._sender.send(response, flags=FINAL)

    def cancelled(self) -> bool:
        return bool(self._sender.is_cancelled())


class BlsExecutor:
    """Calls the repository's models through BLS.

    `holders` are those that hold sessions, with the input that numbers a session's requests there;
    `identity` is what the public model is, `stateless` are those of the others that are known.
    """

    def __init__(
        self, identity: Identity, holders: Mapping[str, str], stateless: Sequence[Identity]
    ) -> None:
        self.holders = holders
        self.examination = Examination(identity, list(holders), self.ask, stateless)
        self._pool = ThreadPoolExecutor(
            identity.max_sessions * len(holders), thread_name_prefix="open or close"
        )
        self._first_start = threading.Lock()
        self._is_first_start = True

    def ask(self, model: str) -> Identity:
        """What a holder is; RuntimeError if it can't be reached."""
        inputs = {self.holders[model]: np.zeros(1, np.int64)}
        return _identity(self.hold(model, ALL_SESSIONS, START, inputs, [OUTPUT]))

    def is_server_leaving(self) -> bool:
        """Whether the server takes no calls any more."""
        try:
            self.ask(next(iter(self.holders)))
        except Exception as error:
            return NOT_READY in str(error)
        return False

    def forget_strangers(self) -> None:
        """Before the first session: a process before us may have died with sessions open.
        RuntimeError if the models don't belong together."""
        self.examination.await_agreement()
        with self._first_start:
            if self._is_first_start:
                self.close(ALL_SESSIONS)
                self._is_first_start = False

    def open(self, session: int, tensors: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Open a session at every holder, side by side, with its tensors."""
        opened = [
            self._pool.submit(self.hold, model, session, START, tensors[model], [OUTPUT])
            for model in self.holders
        ]
        for future in opened:
            future.exception()  # all must have ended before the first failure is told
        self.examination.check(_identity(future.result()) for future in opened)

    def close(self, session: int) -> None:
        ends = [  # Triton sends no request without an input
            self._pool.submit(self.hold, model, session, END, {order: np.zeros(1, np.int64)}, [])
            for model, order in self.holders.items()
        ]
        for end in ends:
            if (error := end.exception()) is not None:
                logger.warning("session %d could not be closed: %s", session, error)

    def stop(self) -> None:
        self._pool.shutdown()

    def call(
        self, model: str, inputs: Mapping[str, np.ndarray], outputs: list[str]
    ) -> dict[str, np.ndarray]:
        """Run a stateless model."""
        request = pb.InferenceRequest(
            model_name=model, requested_output_names=outputs, inputs=_tensors(inputs)
        )
        return _outputs(model, request.exec())

    def hold(
        self,
        model: str,
        session: int,
        flags: int,
        inputs: Mapping[str, np.ndarray],
        outputs: list[str],
    ) -> dict[str, np.ndarray]:
        """Call a model that holds sessions. A block that has overtaken its predecessor on the way
        is refused, and sent again."""
        give_up = time.monotonic() + GIVE_UP_S
        while True:
            request = pb.InferenceRequest(
                model_name=model,
                requested_output_names=outputs,
                inputs=_tensors(inputs),
                correlation_id=session,
                flags=flags,
            )
            response = request.exec()
            if not _is_out_of_order(response) or time.monotonic() > give_up:
                return _outputs(model, response)
            time.sleep(RETRY_S)


def _identity(outputs: Mapping[str, np.ndarray]) -> Identity:
    return Identity.from_json(outputs[OUTPUT].tobytes())


def _is_out_of_order(response: Any) -> bool:
    return response.has_error() and OUT_OF_ORDER in response.error().message()


def tensors_of(request: Any) -> dict[str, np.ndarray]:
    return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}


def _tensors(arrays: Mapping[str, np.ndarray]) -> list[Any]:
    return [pb.Tensor(name, array) for name, array in arrays.items()]


def _outputs(model: str, response: Any) -> dict[str, np.ndarray]:
    if response.has_error():
        words = response.error().message()
        if NOT_READY in words:
            words = f"the server is starting or shutting down ({words})"
        raise RuntimeError(f"{model}: {words}")
    return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}
