"""A stand-in for Triton with the `live_avatar` model: the wire without the networks.

It answers every 7680 samples with 12 tiny frames whose value is the block's number, and END with
what is left. Faults are switched on by constructor arguments.
"""

import threading
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

DTYPES = {"UINT8": np.uint8, "INT16": np.int16, "INT64": np.int64, "FP32": np.float32}
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}


class FakeAvatar(service_pb2_grpc.GRPCInferenceServiceServicer):
    """`requests` records what came, as (flags and names, tensors). A block takes `block_s`. Only
    the first `num_faulty` streams have faults, if it is given."""

    def __init__(
        self,
        *,
        model: str = "live_avatar",
        error_at_block: int | None = None,
        error: str = "stage 2 is on fire",
        cut_at_block: int | None = None,
        abort_at_block: int | None = None,
        renumber: int = 0,
        final_with_frames: bool = False,
        silent: bool = False,
        block_s: float = 0.0,
        refuses_prompts: bool = False,
        refuses_start: str = "",
        num_faulty: int | None = None,
    ) -> None:
        self.model = model
        self.error_at_block = error_at_block
        self.error = error
        self.cut_at_block = cut_at_block
        self.abort_at_block = abort_at_block
        self.renumber = renumber
        self.final_with_frames = final_with_frames
        self.silent = silent
        self.block_s = block_s
        self.refuses_prompts = refuses_prompts
        self.refuses_start = refuses_start
        self.num_faulty = num_faulty
        self.num_streams = 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.cancelled = threading.Event()
        self.requests: list[tuple[Any, dict[str, np.ndarray]]] = []

    def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802, wire name
        return service_pb2.ServerMetadataResponse(name="triton", version="2.51.0")

    def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802, wire name
        return service_pb2.ServerReadyResponse(ready=True)

    def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802, wire name
        return service_pb2.ModelReadyResponse(ready=request.name == self.model)

    def ModelStreamInfer(self, requests: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        context.add_callback(self.cancelled.set)
        self.num_streams += 1
        if self.num_faulty is not None and self.num_streams > self.num_faulty:
            self.error_at_block = self.cut_at_block = self.abort_at_block = None
            self.refuses_start = ""
        num_samples = num_frames = num_blocks = generation = 0
        for request in requests:
            tensors = read_tensors(request)
            self.requests.append((request, tensors))
            while not self.may_answer.wait(0.01):
                if not context.is_active():
                    return
            if self.silent:
                continue
            if self.refuses_start:
                yield refusal(request.id, self.refuses_start)
                continue
            if self.refuses_prompts and "prompt" in tensors:
                yield refusal(request.id, "prompt came in mid-session")
                continue
            if "interrupt" in tensors:  # the newest block is made again
                generation, num_blocks = generation + 1, int(tensors["interrupt"][0])
                num_frames, num_samples = 12 * num_blocks, 7680 * num_blocks
            num_samples += len(tensors.get("audio", tensors.get("audio_int16", ())))
            num_samples += tensors["actor_audio"].shape[1] if "actor_audio" in tensors else 0
            due = -(-num_samples // 640)
            end = request.parameters["sequence_end"].bool_param
            responses = []
            while due - num_frames >= 12 or (end and due > num_frames):
                if num_blocks == self.cut_at_block:
                    return
                if num_blocks == self.abort_at_block:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
                if num_blocks == self.error_at_block:
                    yield service_pb2.ModelStreamInferResponse(error_message=self.error)
                    break
                time.sleep(self.block_s)
                count = min(12, due - num_frames)
                responses.append(self._block(request, num_blocks, num_frames, count, generation))
                num_blocks, num_frames = num_blocks + 1, num_frames + count
            if not (self.final_with_frames and responses):
                responses.append(service_pb2.ModelInferResponse(id=request.id))
            responses[-1].parameters["triton_final_response"].bool_param = True
            for response in responses:
                yield service_pb2.ModelStreamInferResponse(infer_response=response)

    def _block(
        self, request: Any, block: int, frame_index: int, count: int, generation: int
    ) -> Any:
        arrays = {
            "frames": np.full((count, 4, 6, 3), block % 256, np.uint8),
            "frame_index": np.array([frame_index], np.int64),
            "block": np.array([block + self.renumber], np.int64),
            "generation": np.array([generation], np.int64),
            "timings_ms": np.arange(6, dtype=np.float32),
            "latent": np.full((1, 16, 3, 1, 1), block, np.float32),
        }
        response = service_pb2.ModelInferResponse(model_name=self.model, id=request.id)
        for name in [output.name for output in request.outputs] or list(arrays):
            array = arrays[name]
            response.outputs.add(name=name, datatype=NAMES[array.dtype], shape=array.shape)
            response.raw_output_contents.append(array.tobytes())
        return response


def refusal(request_id: str, words: str) -> Any:
    """An error that ends one request, as Triton sends it."""
    response = service_pb2.ModelInferResponse(id=request_id)
    response.parameters["triton_final_response"].bool_param = True
    return service_pb2.ModelStreamInferResponse(error_message=words, infer_response=response)


def read_tensors(request: Any) -> dict[str, np.ndarray]:
    """The arrays of a `ModelInferRequest`, from its raw contents."""
    return {
        tensor.name: np.frombuffer(raw, DTYPES[tensor.datatype]).reshape(tensor.shape)
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
    }


@contextmanager
def serving(avatar: FakeAvatar) -> Iterator[str]:
    """Serve on a free port of this machine; yields host:port."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(avatar, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        avatar.may_answer.set()
        server.stop(grace=None).wait()
