"""Inputs that requests of both systems carry, checked. ValueError says which, what came, what was
wanted; it reaches the client as it stands."""

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.config.sizes import StreamConfig
from pipeline.engines.base import Array, Arrays
from pipeline.sessions.json_options import MAX_OPTIONS_BYTES, shown
from pipeline.sessions.text import pad_text

MAX_PROMPT_BYTES = 8192
MAX_INPUT_BYTES = 64 * 2**20
"""Of any input of one request, where no less is taken."""
SMALL_INPUTS = {"prompt": MAX_PROMPT_BYTES, "options": MAX_OPTIONS_BYTES}
"""Input -> bytes that are taken."""


def check_bytes(inputs: Arrays, limits: Mapping[str, int]) -> None:
    """ValueError for an input of more bytes than are taken, before anything is copied or decoded.
    `limits` are those of a model's own inputs."""
    limits = {**SMALL_INPUTS, **limits}
    for name, array in inputs.items():
        limit = limits.get(name, MAX_INPUT_BYTES)
        if array.nbytes > limit:
            raise ValueError(f"{name} has {array.nbytes} bytes, at most {limit} are taken")


def check_sequence(inputs: Arrays, session: object, start: bool, start_only: Sequence[str]) -> None:
    """ValueError for a sequence id that is no number, or what belongs to START in mid-session:
    `start_only`, seed and options."""
    if not isinstance(session, int):  # Triton takes text, too
        raise ValueError(f"sequence id is the text {shown(session)}, wanted a 64-bit integer")
    for name in (*start_only, "seed", "options"):
        if name in inputs and not start:
            raise ValueError(f"{name} came in mid-session; it belongs to the START request")


def read_prompt(inputs: Arrays) -> str:
    """`prompt` of a request, "" if there is none."""
    raw = inputs["prompt"].tobytes() if "prompt" in inputs else b""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"prompt is not UTF-8: {error}") from error


def read_text(inputs: Arrays, config: StreamConfig) -> Array | None:
    """`text` [1..text_len, text_dim] of a request, finite, as `pad_text` gives it."""
    if "text" not in inputs:
        return None
    padded = pad_text(inputs["text"], config)
    check_finite("text", padded)
    return padded


def read_received(inputs: Arrays) -> int | None:
    """How many blocks the client says it has read."""
    if (given := inputs.get("received")) is None:
        return None
    if given.shape != (1,) or given[0] < 0:
        raise ValueError(
            f"received is {shown(given.reshape(-1)[:4].tolist())}, wanted one integer, 0 or more: "
            "how many blocks were read"
        )
    return int(given[0])


def read_seed(inputs: Arrays) -> int:
    """`seed` of a request, 0 if there is none."""
    seed = inputs.get("seed")
    if seed is None:
        return 0
    if seed.shape != (1,):
        raise ValueError(f"seed is {list(seed.shape)}, wanted one integer [1]")
    return int(seed[0])


def read_blocks(inputs: Arrays, name: str, shape: tuple[int, ...]) -> Array | None:
    """An input [blocks, *shape] with one or more blocks, finite."""
    array = inputs.get(name)
    if array is None:
        return None
    if array.ndim != len(shape) + 1 or array.shape[1:] != shape or len(array) == 0:
        raise ValueError(
            f"{name} is {list(array.shape)}, wanted [blocks, {', '.join(map(str, shape))}]"
        )
    check_finite(name, array)
    return array


def check_finite(name: str, array: Array) -> None:
    """ValueError if the input `name` has a value that is no finite number."""
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has values that are not finite numbers")
