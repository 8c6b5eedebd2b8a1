"""Scans of a JPEG file: where they end, whether any is missing, and what could have followed."""

import random
import re
from dataclasses import dataclass, field

from pipeline.pictures.format import MAX_PARTS, too_many

MAX_SCANS = 100
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd8]")


@dataclass(slots=True)
class Scans:
    """What stands behind the header of a JPEG file."""

    headers: list[bytes] = field(default_factory=list)
    """Of each scan: its components, first and last coefficient, bits."""
    begin: int = 0
    end: int = 0
    """Place of the last scan in the file, without what may follow before the end marker."""
    ended: bool = False  # whether the end marker came

    def are_complete(self, components: bytes, progressive: bool) -> bool:
        """Whether every coefficient has come down to its last bit, the last scan being whole."""
        missing = {(name, index) for name in components for index in range(64)}
        for header in self.headers:
            names, (first, last, bits) = header[:-3], header[-3:]
            indices = range(first, last + 1) if progressive else range(64)
            if not progressive or bits & 15 == 0:
                missing -= {(name, index) for name in names for index in indices}
        return not missing


def read_scans(data: bytes, at: int) -> Scans:
    """The scans from a place on; PictureError for too many."""
    scans = Scans()
    for _ in range(MAX_PARTS):
        found = _MARKER.search(data, at)
        if found is None:
            break
        scans.end = scans.end or found.start()
        marker, at = data[found.end() - 1], found.end()
        length = int.from_bytes(data[at : at + 2], "big")
        if marker == 0xD9 or at + max(length, 2) > len(data):
            scans.ended = marker == 0xD9
            break
        body, at = data[at + 2 : at + length], at + length
        if marker == 0xDA and len(body) >= 4 + 2 * body[0]:
            count = body[0]
            scans.headers.append(body[1 : 1 + 2 * count : 2] + body[1 + 2 * count : 4 + 2 * count])
            scans.begin, scans.end = found.start(), 0
            if len(scans.headers) > MAX_SCANS:
                raise too_many("JPEG", "scans", MAX_SCANS)
    else:
        raise too_many("JPEG", "segments")
    scans.end = scans.end or len(data)
    while data[scans.end - 1] == 0xFF:  # half a marker, or fill bytes in front of one
        scans.end -= 1
    return scans


def other_ends(data: bytes, scans: Scans, count: int) -> list[bytes]:
    """What could have followed if the last scan broke off: noise, and noise behind each of the next
    restart markers; out of their order the decoder would pass over them."""
    places = [data.rfind(_restart(n), scans.begin, scans.end) for n in range(8)]
    after = places.index(max(places)) + 1 if max(places) >= 0 else 0
    return [_noise(after, seed) for seed in range(count)]


def _noise(first_restart: int, seed: int) -> bytes:
    draw = random.Random(seed)
    noise = [draw.randbytes(size).replace(b"\xff", b"\x7f") for size in (4096, *8 * [512])]
    return noise[0] + b"".join(_restart(first_restart + n) + noise[n + 1] for n in range(8))


def _restart(number: int) -> bytes:
    return bytes((0xFF, 0xD0 + number % 8))
