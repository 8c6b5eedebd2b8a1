"""Numbers of a device in arrays of the host, also of the types that numpy lacks."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.engines.manifest import TensorSpec


def storage_type(dtype: str) -> np.dtype[Any]:
    """numpy's type of the same size; numpy has no bfloat16 and no 8-bit floats."""
    return np.dtype({"bfloat16": "uint16", "float8": "uint8"}.get(dtype, dtype))


def wire_type(dtype: str) -> np.dtype[Any]:
    """What a caller gives and gets: float32 where the device has bfloat16."""
    return np.dtype("float32" if dtype == "bfloat16" else dtype)


def check_array(spec: TensorSpec, array: np.ndarray, where: str) -> np.ndarray:
    """The array, contiguous; ValueError if it is not within `spec`. `where` begins the message."""
    fits = len(array.shape) == len(spec.smallest) and all(
        low <= size <= high
        for low, size, high in zip(spec.smallest, array.shape, spec.largest, strict=True)
    )
    if array.dtype != wire_type(spec.dtype) or not fits:
        wanted = f"{list(spec.smallest)}"
        if spec.smallest != spec.largest:
            wanted += f" to {list(spec.largest)}"
        raise ValueError(
            f"{where} is {array.dtype}{list(array.shape)}, wanted {wire_type(spec.dtype)}{wanted}"
        )
    return np.ascontiguousarray(array)


def to_bfloat16(array: np.ndarray) -> np.ndarray:
    """float32 to the bits of the nearest bfloat16 (ties to even), uint16. NaN stays NaN."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(array), 0x7FC0, rounded).astype(np.uint16)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """The bits of bfloat16 numbers to float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
