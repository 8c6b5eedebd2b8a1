"""JPEG files: cut ones with and without an end marker, thumbnails and EXIF in broken metadata."""

import struct
import time

import numpy as np
import pytest
from PIL import Image

from pipeline.pictures.decoding import decode_picture
from pipeline.pictures.jpeg import read_jpeg
from tests.support.drawn_pictures import encoded, jpeg_with, outcome, segment, smooth, turned

pytestmark = pytest.mark.long

END = b"\xff\xd9"
PICTURES = {
    "noise": Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 30, 3), np.uint8)),
    "smooth": smooth(),
    "grey": smooth(30, 41).convert("L"),
    "cmyk": smooth(24, 24).convert("CMYK"),
    "flat": Image.new("RGB", (32, 32), (128, 128, 128)),
}
WAYS: list[dict] = [
    {},
    {"progressive": True},
    {"quality": 100, "restart_marker_rows": 1},
    {"progressive": True, "restart_marker_blocks": 2},
]
LEFT_OVER = [b"", END, END + b"trailing \xff\xd8 garbage", segment(0xFE, b"a comment") + END]


@pytest.mark.parametrize("left", LEFT_OVER, ids=["nothing", "end", "garbage", "comment"])
@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("name", PICTURES)
def test_a_jpeg_may_lack_its_end_marker_but_no_pixel(name: str, way: dict, left: bytes) -> None:
    """Cut anywhere, it is refused or complete: grey filling would speak in place of a face.

    Programs that repair files write an end marker where they were cut.
    """
    data = encoded(PICTURES[name], "JPEG", **way)
    whole = decode_picture(data)
    assert np.array_equal(decode_picture(data[:-2] + left), whole)
    assert np.array_equal(decode_picture(data[:-1] + left), whole)
    for end in range(3, len(data) - 2, 1 if len(data) < 2000 else 7):
        got = outcome(data[:end] + left)
        if isinstance(got, str):
            assert got.startswith(("image is cut off: the JPEG file", "image is a damaged JPEG"))
        else:
            assert np.array_equal(got, whole), end
            assert len(data) - end < 100  # bytes without which nothing looks different


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_a_large_jpeg_that_was_cut_and_ended_is_refused(progressive: bool, share: float) -> None:
    """One try must be enough for it: each costs as much as the picture itself."""
    data = encoded(smooth(1100, 1000), "JPEG", progressive=progressive)
    assert len(read_jpeg(data).ends) == 2
    assert decode_picture(data).shape == (1100, 1000, 3)
    assert "cut off" in str(outcome(data[: int(len(data) * share)] + END))


@pytest.mark.parametrize("missing", range(1, 5))
def test_a_progressive_jpeg_needs_its_last_scans(missing: int) -> None:
    """Cut between two scans it is a blurred picture that decodes without a fault."""
    data = encoded(smooth(), "JPEG", progressive=True)
    end = len(data)
    for _ in range(missing):
        end = data.rindex(b"\xff\xda", 0, end)
    got = outcome(data[:end] + END)
    assert isinstance(got, str)
    assert got.startswith("image is cut off: the JPEG file")


def exif_with_thumbnail(thumbnail: bytes) -> bytes:
    return turned(6).tobytes() + thumbnail


@pytest.mark.parametrize(
    "wrong",
    [0, 1, 2, 3, 9, 40, -100, -3, -2, -1, 1000, 60_000],
    ids=lambda n: f"length {n:+}" if n < 0 or n > 99 else f"length {n}",
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_thumbnail_never_becomes_the_picture(wrong: int, nested: bool) -> None:
    """Where the length of its segment is wrong its markers look like the picture's own."""
    thumbnail = encoded(Image.new("RGB", (32, 32), "red"), "JPEG")
    if nested:
        inner = encoded(Image.new("RGB", (16, 16), "blue"), "JPEG")
        thumbnail = thumbnail[:2] + segment(0xE1, b"Exif\0\0" + inner) + thumbnail[2:]
    body = exif_with_thumbnail(thumbnail)
    length = wrong if 0 <= wrong < 100 else len(body) + 2 + wrong
    got = decode_picture(jpeg_with(segment(0xE1, body, length)))
    assert np.array_equal(got, decode_picture(jpeg_with()))


def test_a_thumbnail_in_sound_metadata_is_passed_over() -> None:
    """Nearly every camera's file has one; its orientation is the picture's."""
    thumbnail = encoded(Image.new("RGB", (32, 32), "red"), "JPEG")
    got = decode_picture(jpeg_with(segment(0xE1, exif_with_thumbnail(thumbnail))))
    assert np.array_equal(got, np.rot90(decode_picture(jpeg_with()), k=-1))


def exif(orientation: int) -> bytes:
    return segment(0xE1, turned(orientation).tobytes())


BROKEN = segment(0xE1, turned(3).tobytes(), length=9)


@pytest.mark.parametrize(
    ("segments", "turns"),
    [
        ([exif(6), exif(3)], -1),
        ([BROKEN, exif(6)], -1),
        ([segment(0xE1, b"Exif\0\0junk"), exif(6), exif(3)], -1),
        ([exif(6), BROKEN], -1),
        ([BROKEN], 0),
    ],
)
def test_the_first_whole_exif_turns_the_picture(segments: list[bytes], turns: int) -> None:
    """A broken one says nothing that can be trusted."""
    got = decode_picture(jpeg_with(*segments))
    assert np.array_equal(got, np.rot90(decode_picture(jpeg_with()), k=turns))


def long_exif(length: int | None) -> bytes:
    """A header of EXIF data whose many entries say nothing."""
    entries = struct.pack(">HHI4x", 0x010E, 2, 1) * 511
    return segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\x01\xff" + entries, length)


@pytest.mark.parametrize(
    "extra",
    [
        segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\2\0", 60_001) * 50_000,
        b"\xff\xe1\xea\x61Exif\0\0MM\0*\0\0\0\x08\2\0" * 50_000 + long_exif(None),
        long_exif(None) * 5000,
        long_exif(7) * 5000,
        b"\xff\xe1\0\0" * 90_000,
    ],
    ids=["overlapping", "overlapping, one whole", "whole", "broken", "empty"],
)
def test_exif_data_by_the_thousand_costs_little(extra: bytes) -> None:
    """Each would be copied and searched, and overlapping ones many times over."""
    data, begin = jpeg_with(extra), time.perf_counter()
    outcome(data)
    assert time.perf_counter() - begin < 0.8
