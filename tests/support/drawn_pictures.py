"""Encoded pictures for tests: every format that is taken, and PNG files chunk by chunk."""

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.pictures.decoding import decode_picture

ORIENTATION = 0x0112


def outcome(data: bytes) -> NDArray[np.uint8] | str:
    """The decoded pixels, or the words in which the picture is refused."""
    try:
        return decode_picture(data)
    except ValueError as error:
        return str(error)


def smooth(height: int = 45, width: int = 61) -> Image.Image:
    """A picture that survives compression: a few colours, blurred into each other."""
    noise = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def encoded(
    picture: Image.Image | NDArray[np.uint8], kind: str = "PNG", **options: object
) -> bytes:
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def every_format() -> list[bytes]:
    """One small file of each kind the decoders tell apart, still and animated."""
    picture, exif = smooth(), turned(6)
    more = [picture.rotate(9), picture.rotate(18)]
    animated = {"save_all": True, "append_images": more}
    deep = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    return [
        encoded(picture, "PNG", exif=exif),
        encoded(picture.convert("P")),
        encoded(picture.convert("RGBA")),
        encoded(deep),
        encoded(picture, "JPEG", exif=exif),
        encoded(picture, "JPEG", progressive=True),
        encoded(picture.convert("CMYK"), "JPEG"),
        encoded(picture.convert("L"), "JPEG", restart_marker_blocks=2),
        encoded(picture, "WEBP", exif=exif),
        encoded(picture.convert("RGBA"), "WEBP", lossless=True),
        encoded(picture, "AVIF", exif=exif),
        encoded(picture, "GIF"),
        encoded(picture, "BMP"),
        encoded(picture.convert("P"), "BMP"),
        *(encoded(picture, kind, **animated) for kind in ("PNG", "WEBP", "AVIF", "GIF")),
    ]


def chunk(kind: bytes, body: bytes, checksum: int | None = None) -> bytes:
    """A PNG chunk, with a wrong checksum if one is given."""
    right = zlib.crc32(kind + body)
    return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", checksum or right)


def png_with(*chunks: bytes, picture: Image.Image | None = None) -> bytes:
    """A PNG file with these chunks behind its header."""
    data = encoded(picture or smooth())
    return data[:33] + b"".join(chunks) + data[33:]


def png_of(header: bytes, pixels: bytes) -> bytes:
    """A PNG file of a header's 13 bytes and packed pixels."""
    chunks = (chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def png_header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    return struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)


def jpeg_with(*segments: bytes, **options: object) -> bytes:
    """A JPEG file with these segments in front of all others."""
    data = encoded(smooth(), "JPEG", **options)
    return data[:2] + b"".join(segments) + data[2:]


def segment(marker: int, body: bytes, length: int | None = None) -> bytes:
    """A JPEG segment, with a wrong length if one is given."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2 if length is None else length) + body
