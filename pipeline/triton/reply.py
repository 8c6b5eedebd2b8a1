"""Answers to clients, through Triton's response sender."""

import json
from typing import Any

import triton_python_backend_utils as pb

from pipeline.sessions.session import Answer
from pipeline.sessions.words import without_paths

FINAL = pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonReply:
    """The response sender of one request."""

    def __init__(self, request: Any, *, is_traced: bool = False) -> None:
        self._sender = request.get_response_sender()
        self._wanted = set(request.requested_output_names())
        self.is_held = json.loads(request.parameters() or "{}").get("hold") is True
        self.traceparent = _traceparent(request) if is_traced else None

    def send(self, answer: Answer) -> None:
        outputs = answer.outputs().items()
        tensors = [pb.Tensor(name, array) for name, array in outputs if name in self._wanted]
        self._sender.send(pb.InferenceResponse(tensors))

    def finish(self) -> None:
        self._sender.send(flags=FINAL)

    def fail(self, message: str) -> None:
        response = pb.InferenceResponse(error=pb.TritonError(without_paths(message)))
        self._sender.send(response, flags=FINAL)

    def cancelled(self) -> bool:
        return bool(self._sender.is_cancelled())


def _traceparent(request: Any) -> str | None:
    """As in `Reply`. Triton's trace itself is never passed on with calls of other models: it ends
    with the request, maybe before they do, and that took the server down (docs/log.md)."""
    context = request.trace().get_context()
    found: str | None = json.loads(context)["traceparent"] if context else None
    return found
