"""Which pictures are taken, what becomes of their colours, and how others are refused."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.pictures.decoding import decode_picture
from pipeline.pictures.format import TAKEN, TAKEN_FORMATS, PictureError, picture_format
from tests.support.drawn_pictures import encoded, smooth, turned

RGB = np.asarray(smooth())


@pytest.mark.parametrize(
    ("kind", "options", "close"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 95}, 8),
        ("AVIF", {"quality": 95}, 8),
        ("JPEG", {"quality": 95}, 8),
    ],
)
def test_six_formats_decode_to_their_pixels(kind: str, options: dict, close: int) -> None:
    """A phone's or a browser's own format would be refused, or come in other colours."""
    got = decode_picture(encoded(smooth(), kind, **options))
    assert got.dtype == np.uint8
    assert np.abs(got.astype(int) - RGB).mean() <= close


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "AVIF", "PNG"])
def test_the_first_picture_of_an_animation_is_taken(kind: str) -> None:
    """The last one, or all of them on top of each other, would speak."""
    red, blue = (Image.new("RGB", (40, 30), colour) for colour in ("red", "blue"))
    data = encoded(red, kind, save_all=True, append_images=[blue, red, blue])
    got = decode_picture(data).reshape(-1, 3).mean(0)
    assert got[0] > 240
    assert max(got[1:]) < 15


def test_the_first_picture_of_a_phone_s_pair_is_taken() -> None:
    """Phones append a second picture to a JPEG file (MPO)."""
    data = encoded(smooth(), "MPO", save_all=True, append_images=[Image.new("RGB", (61, 45))])
    assert np.abs(decode_picture(data).astype(int) - RGB).mean() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_pictures_are_turned_as_exif_says(kind: str, orientation: int) -> None:
    """Portraits would lie on their side or be mirrored."""
    data = encoded(smooth(), kind, exif=turned(orientation), quality=95)
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    assert np.array_equal(decode_picture(data), wanted)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_pictures_are_turned_as_their_properties_say(orientation: int) -> None:
    """AVIF has a property for it, which its decoder reads."""
    data = encoded(smooth(), "AVIF", exif=turned(orientation), quality=95)
    wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert np.array_equal(decode_picture(data), np.asarray(wanted))


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGBA", "I;16")),
        *(("GIF", mode) for mode in ("1", "L", "LA", "P")),
        *(("WEBP", mode) for mode in ("1", "L", "LA", "P", "RGBA")),
        *(("BMP", mode) for mode in ("1", "L", "P")),
    ],
)
def test_every_mode_becomes_rgb(kind: str, mode: str) -> None:
    """Scanners and screenshots write these."""
    grey = smooth().convert("L")
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        picture = grey.convert(mode)
    got = decode_picture(encoded(picture, kind, **({"lossless": True} if kind == "WEBP" else {})))
    wanted = np.asarray(grey if mode == "I;16" else picture.convert("L"))
    assert np.abs(got.astype(int) - wanted[..., None]).max() <= 1


def test_inverted_ink_of_adobe_s_jpeg_is_turned_round() -> None:
    """Printers' pictures would come as negatives."""
    got = decode_picture(encoded(smooth().convert("CMYK"), "JPEG", quality=95))
    assert np.abs(got.astype(int) - RGB).mean() < 12


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "GIF"])
def test_transparency_lies_over_black_in_every_format(kind: str) -> None:
    """Hidden colours of transparent pixels would show."""
    rgba = np.full((40, 40, 4), 200, np.uint8)
    rgba[..., 3] = 255
    rgba[:20, :, 3] = 0
    got = decode_picture(encoded(rgba, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert got[:18].max() <= 3
    assert np.abs(got[22:].astype(int) - 200).max() <= 3


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_a_png_s_clear_colour_lies_over_black(mode: str) -> None:
    """Grey and RGB files name one colour that does not show."""
    array = np.full((4, 4), 200, np.uint8)
    array[0] = 100
    clear: int | tuple[int, ...] = 200
    if mode == "RGB":
        array, clear = np.repeat(array[..., None], 3, 2), (200, 200, 200)
    elif mode == "I;16":
        array, clear = array.astype(np.uint16) * 257, 200 * 257
    got = decode_picture(encoded(Image.fromarray(array), transparency=clear))
    assert (got[0] == 100).all()
    assert not got[1:].any()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (encoded(smooth(), "TIFF"), "is a TIFF file"),
        (encoded(smooth(), "PDF"), "is a PDF file"),
        (encoded(smooth(), "ICO"), r"is an icon \(ICO\) file"),
        (encoded(smooth(), "JPEG2000"), "is a JPEG 2000 file"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "is an? HEIC file"),
        (b"\0\0\0\x18ftypisom\0\0\2\0isomavc1" + bytes(99), r"is a film \(MP4 or its kin\)"),
        (b'<?xml version="1.0"?>\n<!-- a --><svg width="9"/>', "is an SVG file"),
        (b" <!DOCTYPE html><html></html>", "is an HTML page"),
        (b"hello, I am no picture", "is text"),
        (b"BMW, Bosch and Benz build cars.", "is text"),
        (b"BM", "is text"),
        (b"BM" + bytes(500), "has the bytes of no picture that is known here"),
        (b"BM" + bytes(12) + b"\x29" + bytes(99), "has the bytes of no picture that is known here"),
        ("blå".encode() * 5000, "is text"),
        (b"data:image/png;base64,iVBORw0KGgo=", "is text"),
        (b"PK\3\4" + bytes(30), "is a ZIP file"),
        (bytes(500), "has the bytes of no picture that is known here"),
        (b"\x89PNG\r\n", "has the bytes of no picture that is known here"),
    ],
)
def test_what_is_no_picture_is_named_and_refused(data: bytes, words: str) -> None:
    """Whoever sends a PDF would not learn from "can't be decoded" what to send."""
    wanted = f"^image {words}, wanted a PNG, JPEG, WebP, AVIF, BMP or GIF file$"
    with pytest.raises(ValueError, match=wanted):
        decode_picture(data)


@pytest.mark.parametrize("size", [12, 16, 40, 52, 56, 64, 108, 124])
def test_a_bmp_is_known_by_the_size_of_its_second_header(size: int) -> None:
    """Each version has a size of its own."""
    assert picture_format(b"BM" + bytes(12) + struct.pack("<I", size) + bytes(size)) == "BMP"


def test_each_format_that_is_named_has_its_decoder() -> None:
    """A format would be promised in every error and fail once it comes."""
    words = TAKEN.removeprefix("a ").removesuffix(" file").replace(" or ", ", ").split(", ")
    assert words == list(TAKEN_FORMATS)
    kinds = {"WebP": "WEBP"}
    for name in TAKEN_FORMATS:
        data = encoded(smooth(), kinds.get(name, name))
        assert picture_format(data) == name
        assert decode_picture(data).shape == (45, 61, 3)


def test_avif_under_a_general_brand_is_known_from_heic() -> None:
    """Both may call themselves mif1 first."""
    avif = encoded(smooth(), "AVIF")
    assert picture_format(avif[:8] + b"mif1" + avif[12:]) == "AVIF"
    with pytest.raises(PictureError, match="HEIC"):
        picture_format(b"\0\0\0\x14ftypmif1\0\0\0\0heic")
