"""Broken pictures: metadata never refuses one, missing pixels always do, nothing else escapes."""

import random
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.pictures.decoding import decode_picture
from tests.support.drawn_pictures import (
    chunk,
    encoded,
    every_format,
    jpeg_with,
    outcome,
    png_header,
    png_of,
    png_with,
    segment,
    smooth,
    turned,
)

RGB = np.asarray(smooth())
CASES = Path(__file__).parents[4] / "shared" / "cases"
BOMB = zlib.compress(bytes(200_000_000), 9)
BAD_EXIF = [b"", b"junk", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", bytes(99)]


@pytest.mark.parametrize(
    "extra",
    [
        *(chunk(b"eXIf", exif) for exif in BAD_EXIF),
        chunk(b"eXIf", turned(9).tobytes()[6:]),
        chunk(b"tEXt", b"Comment\0" + b"a" * 2_000_000),
        chunk(b"tEXt", b""),
        chunk(b"zTXt", b"Comment\0\0" + BOMB),
        chunk(b"zTXt", b"Comment\0\7junk"),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB),
        chunk(b"iTXt", b"a"),
        chunk(b"iCCP", b"profile\0\0junk"),
        chunk(b"iCCP", b"profile\0\0" + BOMB),
        chunk(b"iCCP", b"profile"),
        *(chunk(kind, b"") for kind in (b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"acTL", b"fcTL")),
        chunk(b"tRNS", b"\0"),
        chunk(b"tRNS", b"\0\1\0\1\0\1", checksum=7),
        chunk(b"tEXt", b"Comment\0hello", checksum=7),
        chunk(b"abcd", b"x" * 1000),
        chunk(b"\xff\xfe\0\1", b"no letters"),
    ],
)
def test_a_png_s_metadata_never_refuses_it(extra: bytes) -> None:
    """A picture that every viewer shows would be refused for what nobody sees."""
    assert np.array_equal(decode_picture(png_with(extra)), RGB)


@pytest.mark.parametrize(
    "extra",
    [
        *(segment(0xE1, b"Exif\0\0" + exif) for exif in BAD_EXIF),
        segment(0xE0, b"JFIF\0"),
        segment(0xE2, b"ICC_PROFILE\0"),
        segment(0xE2, b"MPF\0junk"),
        segment(0xED, b"Photoshop 3.0\0" + b"8BIM\xff\xff\xff"),
        segment(0xEE, b"Adobe"),
        segment(0xFE, b""),
        segment(0xFE, b"comment", length=0),
        segment(0xFE, b"comment", length=65_535),
        segment(0xE5, b"short", length=3),
        b"\xff\xff\xff\xff",
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"a" * 60_000),
    ],
)
def test_a_jpeg_s_metadata_never_refuses_it(extra: bytes) -> None:
    """The same for JPEG, whose segments may have any length."""
    assert np.array_equal(decode_picture(jpeg_with(extra)), decode_picture(jpeg_with()))


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
@pytest.mark.parametrize("exif", BAD_EXIF[1:])
def test_other_formats_metadata_never_refuses_them(kind: str, exif: bytes) -> None:
    """The same for WebP and AVIF."""
    bare = encoded(smooth(), kind)
    told = turned(1)
    told[0x010E] = "a description that leaves room"
    data = encoded(smooth(), kind, exif=told)
    place = data.index(b"II*\0" if b"II*\0" in data else b"MM\0*")
    data = data[:place] + exif.ljust(30, b"\xff")[:30] + data[place + 30 :]
    assert np.array_equal(decode_picture(data), decode_picture(bare))


@pytest.mark.parametrize(
    "name", ["png-bad-exif-chunk.png", "png-text-chunk-1.2MB.png", "jpeg-without-eoi.jpg"]
)
def test_known_cases_are_taken(name: str) -> None:
    """Pictures that were refused once."""
    if not (CASES / name).is_file():
        pytest.skip(f"no {CASES / name}")
    assert decode_picture((CASES / name).read_bytes()).ndim == 3


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (png_of(png_header(4, 4), zlib.compress(bytes(26))), "fewer pixels than its header"),
        (png_of(png_header(4, 4), b"junk"), "its pixels can't be unpacked"),
        (png_of(png_header(4, 4, 3), zlib.compress(bytes(99))), "its header is wrong"),
        (png_of(png_header(4, 4, 8, 3), zlib.compress(bytes(99))), "its palette is missing"),
        (png_of(png_header(4, 4)[:9], b""), "its header is wrong"),
    ],
)
def test_what_is_wrong_with_a_png_is_said(data: bytes, words: str) -> None:
    """The decoder itself would show missing rows in black."""
    with pytest.raises(ValueError, match=f"image is a damaged PNG file: .*{words}"):
        decode_picture(data)


@pytest.mark.parametrize(("place", "what"), [(30, "header"), (-17, "pixels")])
def test_a_png_s_pixels_and_header_must_fit_their_checksums(place: int, what: str) -> None:
    """A bit that flipped on the way would become a wrong picture."""
    data = bytearray(encoded(smooth()))
    data[place] ^= 1
    with pytest.raises(ValueError, match=f"the checksum of its {what} is wrong"):
        decode_picture(bytes(data))


@pytest.mark.parametrize("colour", ["RGB", "RGBA", "L", "LA"])
@pytest.mark.parametrize(
    "palette",
    [
        chunk(b"PLTE", b"\xff\0\0" * 4, checksum=7),
        chunk(b"PLTE", b"\xff\0\0" * 4),
        chunk(b"PLTE", b"1234", checksum=7),
        chunk(b"PLTE", b""),
        chunk(b"PLTE", bytes(3000), checksum=7),
    ],
)
def test_a_suggested_palette_never_refuses_a_png(palette: bytes, colour: str) -> None:
    """Only pictures made of a palette's colours need one."""
    picture = smooth().convert(colour)
    got = decode_picture(png_with(palette, picture=picture))
    assert np.array_equal(got, decode_picture(encoded(picture)))


def test_a_palette_that_is_needed_must_fit_its_checksum() -> None:
    """A bit that flipped on the way would become a wrong colour."""
    data = bytearray(encoded(smooth().convert("P")))
    data[data.index(b"PLTE") + 5] ^= 1
    with pytest.raises(ValueError, match="the checksum of its palette is wrong"):
        decode_picture(bytes(data))


@pytest.mark.parametrize("error", [MemoryError(), OSError("out of memory error when reading")])
@pytest.mark.parametrize("data", every_format()[:13:4])
def test_a_server_without_memory_blames_no_file(
    data: bytes, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sent a sound picture would look for damage in it."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(RuntimeError, match="the server has no memory for this image now; try"):
        decode_picture(data)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "GIF", "BMP", "lossless"])
def test_files_cut_anywhere_are_refused_or_complete(kind: str) -> None:
    """Half a picture would be served as a whole one."""
    lossless = {"lossless": True} if kind == "lossless" else {}
    data = encoded(smooth(), "WEBP" if kind == "lossless" else kind, **lossless)
    whole = decode_picture(data)
    for end in range(20, len(data), 1 if kind != "BMP" else 7):
        got = outcome(data[:end])
        assert "cut off" in got if isinstance(got, str) else np.array_equal(got, whole), end


def test_a_png_without_its_end_is_taken() -> None:
    """All pixels are there."""
    data = encoded(smooth())
    assert np.array_equal(decode_picture(data[:-12]), RGB)


def _damage(data: bytes, draw: random.Random) -> bytes:
    broken = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 5, 20))):
        place = draw.randrange(min(len(broken), draw.choice((60, 300, 10**6))) or 1)
        size = draw.randrange(1, 9)
        match draw.randrange(4):
            case 0:
                broken[place : place + 1] = draw.randbytes(1)
            case 1:
                del broken[place : place + size]
            case 2:
                broken[place:place] = draw.randbytes(size)
            case _:
                number = draw.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF))
                broken[place : place + 4] = struct.pack(">I", number)
    return bytes(broken) or b"x"


@pytest.mark.parametrize("count", [400, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("error")
def test_damaged_pictures_are_pictures_or_one_line_in_words(count: int) -> None:
    """The decoders raise a dozen kinds of errors, with addresses in them, or run on."""
    draw, sources = random.Random(count), every_format()
    for _ in range(count):
        data, begin = _damage(draw.choice(sources), draw), time.perf_counter()
        got = outcome(data)
        if isinstance(got, str):
            assert got.startswith("image ")
            assert not any(word in got for word in ("\n", " at 0x", "/", "<", "Error"))
        assert time.perf_counter() - begin < 5
