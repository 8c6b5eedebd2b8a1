"""The wire of the `live_avatar` model: names, types and shapes of its tensors, and conversions.

The owner of these tensors is `model_repository/live_avatar/config.pbtxt`; a test compares. All
tensors have fixed-size elements: text and encoded pictures travel as UINT8.

Letters: n blocks of a request, T video frames, H W picture size, F latent frames per block,
h w latent size, A actors.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import InferResult, service_pb2
from tritonclient.utils import np_to_triton_dtype

Array = npt.NDArray[Any]

MODEL = "live_avatar"
DEFAULT_URL = "127.0.0.1:8001"  # Triton's gRPC endpoint as `make serve` starts it
SAMPLE_RATE = 16_000
FPS = 25
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
"""The video clock is the audio clock: frame k belongs to samples [640 k, 640 (k + 1))."""

TIMINGS = ("total", "queued", "audio_encoder", "vae_decoder")
"""First entries of `timings_ms`; then one entry per denoising stage, dit_stage_0 onwards."""


class AvatarError(Exception):
    """The server refused, failed, fell silent or could not be reached; the text says which."""


class UnavailableError(AvatarError):
    """The server is lost, full or being drained: another try, or another server, may do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One tensor of the model: Triton's type name and dims, -1 where any size goes."""

    datatype: str
    dims: tuple[int, ...]

    def check(self, name: str, array: Array, model: str = MODEL) -> None:
        """ValueError, with what came and what was wanted, for an array that is no such tensor."""
        fits = array.ndim == len(self.dims) and all(
            want in (-1, got) for got, want in zip(array.shape, self.dims, strict=True)
        )
        if np_to_triton_dtype(array.dtype) != self.datatype or not fits:
            raise ValueError(
                f"{model}: input {name} is {array.dtype} {list(array.shape)}, "
                f"expected {self.datatype} {list(self.dims)} (-1 is any size)"
            )


INPUTS: Mapping[str, TensorSpec] = {
    "image": TensorSpec(datatype="UINT8", dims=(-1,)),
    "image_rgb": TensorSpec(datatype="UINT8", dims=(-1, -1, 3)),
    "prompt": TensorSpec(datatype="UINT8", dims=(-1,)),
    "seed": TensorSpec(datatype="INT64", dims=(1,)),
    "options": TensorSpec(datatype="UINT8", dims=(-1,)),
    "audio": TensorSpec(datatype="FP32", dims=(-1,)),
    "audio_int16": TensorSpec(datatype="INT16", dims=(-1,)),
    "noise": TensorSpec(datatype="FP32", dims=(-1, 16, -1, -1, -1)),
    "actor_masks": TensorSpec(datatype="UINT8", dims=(-1, -1, -1)),
    "actor_audio": TensorSpec(datatype="FP32", dims=(-1, -1)),
    "actors": TensorSpec(datatype="INT64", dims=(-1,)),
    "pose": TensorSpec(datatype="UINT8", dims=(-1, -1, -1, 3)),
    "pose_latents": TensorSpec(datatype="FP32", dims=(-1, 16, -1, -1, -1)),
    "audio_features": TensorSpec(datatype="FP32", dims=(-1, -1, -1, -1)),
    "sink_distance": TensorSpec(datatype="INT64", dims=(-1, -1)),
    "text": TensorSpec(datatype="FP32", dims=(-1, -1)),
    "interrupt": TensorSpec(datatype="INT64", dims=(1,)),
    "received": TensorSpec(datatype="INT64", dims=(1,)),
}
"""All optional for Triton; which ones a START or a later request needs, the model checks."""

DEFAULT_OUTPUTS = ("frames", "frame_index", "block", "timings_ms")
"""Always asked for by name: Triton sends every output, `latent` too, when none is named."""
GENERATION = "generation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of video, the answer to 0.48 s of audio.

    `frames` is uint8 RGB [T, H, W, 3], T = 12 except in a stream's last block; `frame_index` is
    the place of its first frame in the stream; `latent` float32 [1, 16, F, h, w] only where it was
    asked for; `received_s` is `time.perf_counter()` at arrival; `audio` is the sound of these
    frames, float32 [640 T], with the silence that filled pauses; None where the session got no
    sound. With the option drop_first_frames it is what is played with them: the picture leads, as
    in the release. `generation` counts the interruptions before its sound came.
    """

    frames: Array
    frame_index: int
    block: int
    timings_ms: dict[str, float]
    latent: Array | None
    received_s: float
    audio: Array | None = None
    generation: int = 0

    def check_order(self, block: int, frame_index: int) -> None:
        """AvatarError if it is not the one that is due: one is missing, doubled or out of order."""
        if (self.block, self.frame_index) != (block, frame_index):
            raise AvatarError(
                f"the server sent block {self.block} at frame {self.frame_index}, "
                f"expected block {block} at frame {frame_index}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """What the requests and answers of one sequence have in common. `timings` are the first names
    of `timings_ms`; one for each denoising stage follows."""

    model: str
    want_latent: bool
    inputs: Mapping[str, TensorSpec] = field(default_factory=lambda: INPUTS)
    timings: tuple[str, ...] = TIMINGS
    outputs: tuple[str, ...] = (*DEFAULT_OUTPUTS, GENERATION)
    sequence_id: int = field(default_factory=lambda: secrets.randbits(63) | 1)
    """Never 0, which means "no sequence" to Triton."""

    def renewed(self) -> "Wire":
        """The same, of another sequence."""
        return replace(self, sequence_id=secrets.randbits(63) | 1)

    def check(self, tensors: Mapping[str, Array]) -> None:
        """ValueError for a tensor that the model has no input for, or another one."""
        for name, array in tensors.items():
            if name not in self.inputs:
                names = ", ".join(self.inputs)
                raise ValueError(f"{self.model}: no input is named {name!r}, there are {names}")
            self.inputs[name].check(name, array, self.model)

    def request(
        self, tensors: Mapping[str, Array], number: int, *, start: bool = False, end: bool = False
    ) -> Any:
        """A `ModelInferRequest`; ValueError where a tensor doesn't fit the wire.

        START is held: its final response comes when the session has ended, so that a request is
        open by which the server notices at once that this client is gone.
        """
        self.check(tensors)
        request = service_pb2.ModelInferRequest(model_name=self.model, id=str(number))
        request.parameters["sequence_id"].int64_param = self.sequence_id
        request.parameters["sequence_start"].bool_param = start
        request.parameters["sequence_end"].bool_param = end
        request.parameters["triton_enable_empty_final_response"].bool_param = True
        if start and not end:
            request.parameters["hold"].bool_param = True
        for name, array in tensors.items():
            request.inputs.add(name=name, datatype=self.inputs[name].datatype, shape=array.shape)
            request.raw_input_contents.append(np.ascontiguousarray(array).tobytes())
        for name in (*self.outputs, *(["latent"] if self.want_latent else [])):
            request.outputs.add(name=name)
        return request

    def block_from(self, response: Any, received_s: float) -> Block | None:
        """The block in a `ModelInferResponse`; None where there is none, as in final ones and in
        the answer to an interruption."""
        given = {tensor.name for tensor in response.outputs}
        if not given or (GENERATION in given and "frames" not in given):
            return None
        result = InferResult(response)
        arrays = {tensor.name: result.as_numpy(tensor.name) for tensor in response.outputs}
        if missing := [name for name in self.outputs if arrays.get(name) is None]:
            raise AvatarError(
                f"the server's answer lacks {', '.join(missing)}; it has {', '.join(arrays)}"
            )
        timings = arrays["timings_ms"]
        stages = (f"dit_stage_{i}" for i in range(len(timings) - len(self.timings)))
        names = (*self.timings, *stages)
        return Block(
            frames=arrays["frames"],
            frame_index=int(arrays["frame_index"][0]),
            block=int(arrays["block"][0]),
            timings_ms={name: float(ms) for name, ms in zip(names, timings, strict=False)},
            latent=arrays.get("latent"),
            received_s=received_s,
            generation=int(arrays[GENERATION][0]) if GENERATION in arrays else 0,
        )


def is_final(response: Any) -> bool:
    """Whether this `ModelInferResponse` is the last one of its request."""
    return bool(response.parameters["triton_final_response"].bool_param)
