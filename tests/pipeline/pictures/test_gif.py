"""GIF files: the extensions in front of the picture are walked by structure and left out."""

import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from pipeline.pictures.cleaning import clean_gif
from pipeline.pictures.decoding import decode_picture
from tests.support.drawn_pictures import encoded, outcome, smooth

GIF = encoded(smooth(), "GIF")
HEAD = 13 + 3 * 2 ** ((GIF[10] & 7) + 1)


def gif_with(extra: bytes) -> bytes:
    """The drawn picture with bytes in front of its first block."""
    return GIF[:HEAD] + extra + GIF[HEAD:]


def blocks(*sizes: int, fill: bytes = b"!") -> bytes:
    """Data of an extension: blocks of these sizes and the empty one that ends them."""
    return b"".join(bytes((size,)) + fill * size for size in sizes) + b"\0"


@pytest.mark.parametrize("label", [0x01, 0xF9, 0xFE, 0xFF, 0x2C, 0x3B, 0x00])
@pytest.mark.parametrize("first", [0x21, 0x2C, 0x3B, 1, 255])
@pytest.mark.parametrize("repeated", [b"\1a", b"\2,;", b"\xff" + b"," * 255])
def test_blocks_by_the_million_are_refused_behind_any_first_one(
    label: int, first: int, repeated: bytes
) -> None:
    """A length of 44 or 59 looks like the sign that begins a picture or ends the file."""
    extra = b"!" + bytes((label,)) + bytes((first,)) + b"x" * first + repeated * 110_000
    data, begin = gif_with(extra + b"\0"), time.perf_counter()
    assert "GIF file of more than 100000 blocks before its picture" in str(outcome(data))
    assert time.perf_counter() - begin < 1


def test_extensions_by_the_million_are_refused() -> None:
    """Each is a block, if it has data or not."""
    assert "more than 100000 blocks" in str(outcome(gif_with(b"!\xfe\0" * 1_000_000)))


def test_metadata_costs_no_memory() -> None:
    """The decoder would keep each block of a comment as an object of its own."""
    data = gif_with(b"!\xfe" + blocks(44, *[1] * 99_000))
    tracemalloc.start()
    decode_picture(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize(
    "extra",
    [
        b"!\xfe" + blocks(44),
        b"!\xfe" + blocks(59, 44, 33, fill=b","),
        b"!\xfe\0",
        b"!\xff" + blocks(11, 3, 255, fill=b";"),
        b"!\x01" + blocks(12, 44, 59),
        b"!\xf9" + blocks(1),
        b"!\xf9\0",
        b"!\x2c" + blocks(59),
        b"\0\0\0",
    ],
)
def test_a_gif_s_metadata_never_refuses_it(extra: bytes) -> None:
    """A picture that every viewer shows would be refused for what nobody sees."""
    assert np.array_equal(decode_picture(gif_with(extra)), decode_picture(GIF))


def test_a_clear_colour_is_kept_between_comments() -> None:
    """Hidden colours of transparent pixels would show."""
    rgba = np.full((40, 40, 4), 200, np.uint8)
    rgba[:20, :, 3] = 0
    data = encoded(Image.fromarray(rgba), "GIF", comment=b"," * 300)
    place = data.index(b"!\xf9\4")
    data = data[: place + 8] + b"!\xfe" + blocks(44) + data[place + 8 :]
    assert b"," * 44 not in clean_gif(data)
    got = decode_picture(data)
    assert not got[:20].any()
    assert np.abs(got[20:].astype(int) - 200).max() <= 3


@pytest.mark.parametrize("end", [b";", b"", b"!", b"!\xfe", b"!\xfe\x2c"])
def test_a_gif_without_a_picture_is_refused(end: bytes) -> None:
    """It ends where its picture should begin."""
    assert outcome(GIF[:HEAD] + end).startswith("image is cut off: the GIF file")
