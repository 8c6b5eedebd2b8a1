"""Scans of a JPEG file: where they end, whether any is missing, and what could have followed."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.pictures.format import MAX_PARTS, PictureError

MAX_SCANS = 100
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd8]")


@dataclass(slots=True)
class Scans:
    headers: list[bytes] = field(default_factory=list)
    """Of each scan: its components, first and last coefficient, bits."""
    begin: int = 0
    end: int = 0
    """Place of the last scan in the file, without what may follow before the end marker."""
    ended: bool = False
    """Whether the end marker came."""

    def are_complete(self, components: list[int], progressive: bool) -> bool:
        """Whether every coefficient has come down to its last bit, the last scan being whole."""
        missing = {(name, index) for name in components for index in range(64)}
        for header in self.headers:
            names, (first, last, bits) = header[:-3], header[-3:]
            indices = range(first, last + 1) if progressive else range(64)
            if not progressive or bits & 15 == 0:
                missing -= {(name, index) for name in names for index in indices}
        return not missing


def read_scans(data: bytes, start: int) -> Scans:
    """The scans from a place on; PictureError for too many."""
    scans, end = Scans(), 0
    for marker, begin, body in _segments(data, start):
        end = end or begin
        if marker == 0xD9 or body is None:
            scans.ended = marker == 0xD9
            break
        if marker == 0xDA and len(body) >= 4 + 2 * body[0]:
            count = body[0]
            scans.headers.append(body[1 : 1 + 2 * count : 2] + body[1 + 2 * count : 4 + 2 * count])
            scans.begin, end = begin, 0
            if len(scans.headers) > MAX_SCANS:
                raise PictureError(f"image is a JPEG file of more than {MAX_SCANS} scans")
    scans.end = end or len(data)
    while data[scans.end - 1] == 0xFF:  # half a marker, or fill bytes in front of one
        scans.end -= 1
    return scans


def _segments(data: bytes, at: int) -> Iterator[tuple[int, int, bytes | None]]:
    """Marker, place and body of segments from a place on; a body that is cut off is None."""
    for _ in range(MAX_PARTS):
        found = _MARKER.search(data, at)
        if found is None:
            return
        marker, begin, at = data[found.end() - 1], found.start(), found.end()
        if marker == 0xD9:
            yield marker, begin, b""
            continue
        end = at + int.from_bytes(data[at : at + 2], "big")
        if end > len(data) or at + 2 > len(data):
            yield marker, begin, None
            return
        yield marker, begin, data[at + 2 : end]
        at = max(end, at)
    raise PictureError(f"image is a JPEG file of more than {MAX_PARTS} segments")


def other_ends(data: bytes, scans: Scans, count: int) -> tuple[bytes, ...]:
    """What could have followed if the last scan broke off: noise, and noise behind each of the
    next restart markers. Out of their order the decoder would pass over them."""
    last = max(range(8), key=lambda n: data.rfind(_restart(n), scans.begin, scans.end))
    found = data.find(_restart(last), scans.begin, scans.end) >= 0
    return tuple(_noise(last + 1 if found else 0, seed) for seed in range(count))


def _noise(first_restart: int, seed: int) -> bytes:
    draw = random.Random(seed)
    noise = [draw.randbytes(size).replace(b"\xff", b"\x7f") for size in (4096, *8 * [512])]
    return noise[0] + b"".join(_restart(first_restart + n) + noise[n + 1] for n in range(8))


def _restart(number: int) -> bytes:
    return bytes((0xFF, 0xD0 + number % 8))
