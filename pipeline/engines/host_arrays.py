"""Numbers of a device in arrays of the host, also of the types that numpy lacks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.engines.base import Array, misfit
from pipeline.engines.manifest import TensorSpec


def storage_type(dtype: str) -> np.dtype[Any]:
    """numpy's type of the same size; numpy has no bfloat16 and no 8-bit floats."""
    return np.dtype({"bfloat16": "uint16", "float8": "uint8"}.get(dtype, dtype))


def wire_type(dtype: str) -> np.dtype[Any]:
    """What a caller gives and gets: float32 where the device has bfloat16."""
    return np.dtype("float32" if dtype == "bfloat16" else dtype)


def check_within(spec: TensorSpec, array: Array, where: str) -> None:
    """ValueError if the array is not within `spec`; `where` begins the message."""
    if array.dtype != wire_type(spec.dtype) or not spec.holds(array.shape):
        raise misfit(where, array, wire_type(spec.dtype), spec.sizes)


def narrowed(array: Array, dtype: str) -> Array:
    """What the device stores of an array that its caller gave: bits of bfloat16, else itself."""
    return to_bfloat16(array) if dtype == "bfloat16" else array


def widened(stored: Array, dtype: str) -> Array:
    """What a caller gets of numbers as the device stores them; the counterpart of `narrowed`."""
    return from_bfloat16(stored) if dtype == "bfloat16" else stored


def to_bfloat16(array: Array) -> NDArray[np.uint16]:
    """float32 to the bits of the nearest bfloat16 (ties to even), uint16. NaN stays NaN."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(array), 0x7FC0, rounded).astype(np.uint16)


def from_bfloat16(bits: Array) -> NDArray[np.float32]:
    """The bits of bfloat16 numbers to float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
