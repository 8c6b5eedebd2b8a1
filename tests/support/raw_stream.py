"""A bare gRPC stream to the real server, without the client's manners; and its free places."""

import os
import queue
import time
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as grpc

from deploy.server.health import CHANNEL_ARGS
from deploy.server.local import LocalServer

IMAGE = np.frombuffer(
    (Path(__file__).parents[2] / "examples" / "portrait.png").read_bytes(), np.uint8
)


class Stream:
    """A bare gRPC stream, without the client's manners."""

    def __init__(self, server: LocalServer, session: int | None = None) -> None:
        self.session = int.from_bytes(os.urandom(7), "big") if session is None else session
        self.client = grpc.InferenceServerClient(server.grpc_url, channel_args=CHANNEL_ARGS)
        self.answers: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        self.client.start_stream(lambda result, error: self.answers.put((result, error)))

    def send(self, start: bool = False, end: bool = False, **arrays: np.ndarray) -> None:
        inputs = []
        for name, array in arrays.items():
            datatype = {"f": "FP32", "i": f"INT{8 * array.itemsize}", "u": "UINT8"}
            tensor = grpc.InferInput(name, array.shape, datatype[array.dtype.kind])
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        self.client.async_stream_infer(
            "live_avatar",
            inputs,
            sequence_id=self.session,
            sequence_start=start,
            sequence_end=end,
            enable_empty_final_response=True,
        )

    def answer(self, timeout: float = 60) -> tuple[int, str]:
        """Number of answers to the next request that ends, and its error ("" if none)."""
        answers, error = self.answered(timeout)
        return len(answers), error

    def answered(self, timeout: float = 60) -> tuple[list[dict[str, np.ndarray]], str]:
        """Answers to the next request that ends, tensors by name, and its error ("" if none)."""
        found: list[dict[str, np.ndarray]] = []
        while True:
            result, error = self.answers.get(timeout=timeout)
            if error is not None:
                return found, str(error)
            response = result.get_response()
            if response.parameters["triton_final_response"].bool_param:
                return found, ""
            found.append({tensor.name: result.as_numpy(tensor.name) for tensor in response.outputs})

    def ask(self, **kwargs: Any) -> tuple[int, str]:
        self.send(**kwargs)
        return self.answer()

    def close(self) -> None:
        self.client.stop_stream(cancel_requests=True)
        self.client.close()


def wait_until_free(
    server: LocalServer, limit_s: float = 15, since_s: float | None = None
) -> float:
    """Seconds until two sessions can be opened, which is all the server has.

    `since_s`: from when to count, on `time.monotonic`'s clock; None is now.
    """
    began = time.monotonic() if since_s is None else since_s
    while time.monotonic() - began < limit_s:
        probes = [Stream(server) for _ in range(2)]
        for probe in probes:
            probe.send(start=True, image=IMAGE)
        failures = [probe.answer()[1] for probe in probes]
        took_s = time.monotonic() - began
        for probe, failure in zip(probes, failures, strict=True):
            if not failure:
                probe.ask(end=True)
            probe.close()
        if not any(failures):
            return took_s
        time.sleep(0.02)
    raise AssertionError(f"a session is not free after {limit_s} s")
