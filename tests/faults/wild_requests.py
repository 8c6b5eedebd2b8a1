"""Requests that no client of ours would send, drawn from a seed."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

DTYPES: dict[str, Any] = {
    "UINT8": np.uint8,
    "INT16": np.int16,
    "INT64": np.int64,
    "FP32": np.float32,
    "INT32": np.int32,
    "FP64": np.float64,
    "BOOL": np.bool_,
}
SIDES = (0, 1, 1, 2, 3, 5, 16, 640)
MAX_VALUES = 200_000
EXTREMES = (0, 1, -1, 2**31, -(2**63), 2**63 - 1)
OPTIONS = ("live", "look_ahead_frames", "noise_seed", "frames", "", "a" * 200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wild:
    """A request: tensors by name, each with the type that it claims."""

    tensors: dict[str, tuple[str, np.ndarray]]
    sequence: int
    start: bool
    end: bool


class Drawer:
    """`inputs`: name, type and dimensions of a model's public tensors, as its configuration has
    them. `valid`: tensors that a session can start with, and some that can follow."""

    def __init__(
        self,
        inputs: list[dict[str, Any]],
        valid_start: dict[str, tuple[str, np.ndarray]],
        valid_next: dict[str, tuple[str, np.ndarray]],
        seed: int,
    ) -> None:
        self._inputs = {
            each["name"]: (each["data_type"][5:], [int(side) for side in each["dims"]])
            for each in inputs
        }
        self._valid = {True: valid_start, False: valid_next}
        self._draw = np.random.default_rng(seed)

    def request(self) -> Wild:
        """The next one. Few sequences, so that many requests meet one that is open."""
        draw = self._draw
        kind = draw.random()
        start = bool(kind < 0.3)
        tensors = dict(self._valid[start]) if draw.random() < 0.7 else {}
        names = draw.choice(list(self._inputs), size=draw.integers(0, 4), replace=False)
        for name in names:
            tensors[str(name)] = self._tensor(str(name))
        return Wild(
            tensors=tensors,
            sequence=int(draw.integers(1, 7)),
            start=start,
            end=bool(kind > 0.85 or draw.random() < 0.05),
        )

    def _tensor(self, name: str) -> tuple[str, np.ndarray]:
        draw = self._draw
        datatype, dims = self._inputs[name]
        if draw.random() < 0.1:
            datatype = str(draw.choice(list(DTYPES)))
        shape = [int(draw.choice(SIDES)) if side < 0 else side for side in dims]
        if draw.random() < 0.1:
            shape = [int(draw.choice(SIDES)) for _ in range(draw.integers(0, 6))]
        while int(np.prod(shape)) > MAX_VALUES:
            shape[int(np.argmax(shape))] //= 4
        if datatype == "UINT8" and len(shape) == 1 and draw.random() < 0.8:
            return datatype, np.frombuffer(self._text()[:MAX_VALUES], np.uint8)
        return datatype, self._values(shape, DTYPES[datatype])

    def _values(self, shape: list[int], dtype: Any) -> np.ndarray:
        draw = self._draw
        if np.issubdtype(dtype, np.floating):
            values = draw.standard_normal(shape)
            if draw.random() < 0.3 and values.size:
                values.flat[draw.integers(values.size)] = draw.choice([np.nan, np.inf, -1e30, 1e38])
            return values.astype(dtype)
        if draw.random() < 0.5:
            return np.full(shape, draw.choice(np.array(EXTREMES, np.int64))).astype(dtype)
        return draw.integers(0, 200, shape).astype(dtype)

    def _text(self) -> bytes:
        """What a prompt, options or a picture may be made of."""
        draw = self._draw
        key = str(draw.choice(OPTIONS))
        number = float(draw.standard_normal() * 10 ** draw.integers(0, 30))
        makers: list[Callable[[], bytes]] = [
            lambda: draw.bytes(int(draw.integers(0, 2000))),
            lambda: b"[" * int(draw.integers(1, 60_000)),
            lambda: b'{"a":' * int(draw.integers(1, 20_000)),
            lambda: json.dumps({key: number}).encode(),
            lambda: json.dumps({key: [None, {}, "x"]}).encode(),
            lambda: b"\xff\xfe\x00" * int(draw.integers(1, 50)),
            lambda: "Ω\u202e\x00🙂".encode() * int(draw.integers(1, 500)),
            lambda: b"\x89PNG\r\n\x1a\n" + draw.bytes(300),
            lambda: b'{"live": true, "live": false}',
            lambda: b"NaN",
        ]
        return makers[int(draw.integers(len(makers)))]()
