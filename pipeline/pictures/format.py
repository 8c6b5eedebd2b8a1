"""Formats of encoded pictures: which are taken, how the others are told apart, errors in words."""

from __future__ import annotations

TAKEN_FORMATS = ("PNG", "JPEG", "WebP", "AVIF", "BMP", "GIF")
TAKEN = f"a {', '.join(TAKEN_FORMATS[:-1])} or {TAKEN_FORMATS[-1]} file"
MAX_PARTS = 100_000
"""Segments, chunks or blocks of one file that are walked through."""

_SIGNATURES = [
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"8BPS", "Photoshop"),
    (b"\0\0\1\0", "icon (ICO)"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xffO\xffQ", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"qoif", "QOI"),
    (b"PK\3\4", "ZIP"),
    (b"\x1f\x8b", "gzip"),
    (b"\x1aE\xdf\xa3", "Matroska or WebM"),
]
_BRANDS = [
    ((b"avif", b"avis"), "AVIF"),
    ((b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"), "HEIC"),
]
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
"""Sizes in bytes of the second header, which tell its version. Text may begin with BM, too."""


class PictureError(ValueError):
    """What is wrong with a picture, in words for whoever sent it."""


def picture_format(data: bytes) -> str:
    """Name of the format of these bytes, one of those taken; PictureError for any other."""
    found = _recognised(data[:4096])
    if found in TAKEN_FORMATS:
        return found
    came = f"is {found}" if found else "has the bytes of no picture that is known here"
    raise PictureError(f"image {came}, wanted {TAKEN}")


def _recognised(head: bytes) -> str | None:
    """A format that is taken by its name, another one as words that follow `is`."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[4:8] == b"ftyp":
        return _boxed(head)
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return _called(name)
    return _text(head)


def _boxed(head: bytes) -> str:
    """AVIF, HEIC and films share one container and differ in the brands that it names."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, end, 4))]
    for known, name in _BRANDS:
        if any(brand in known for brand in brands):
            return _called(name)
    return "a film (MP4 or its kin)"


def _called(name: str) -> str:
    return name if name in TAKEN_FORMATS else f"{_article(name)} {name} file"


def _text(head: bytes) -> str | None:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"<svg" in start:
        return "an SVG file"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page"
    if any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head):
        return None
    try:
        head[:-3].decode("utf-8", "strict" if len(head) < 4096 else "ignore")
    except UnicodeDecodeError:
        return None
    return "text"


def _article(name: str) -> str:
    return "an" if name[0] in "AEIOUi" or name == "HTML" else "a"


def cut_off(kind: str) -> PictureError:
    return PictureError(f"image is cut off: the {kind} file ends before its last pixel")


def damaged(kind: str, what: str = "it can't be decoded, perhaps it is cut off") -> PictureError:
    return PictureError(f"image is a damaged {kind} file: {what}")


def check_pixels(kind: str, height: int, width: int, limit: int) -> None:
    """PictureError for a picture without pixels or with more than `limit`."""
    if height < 1 or width < 1 or height * width > limit:
        raise PictureError(
            f"image is {_article(kind)} {kind} file of {width} x {height} pixels, "
            f"wanted at least one and at most {limit}; scale it down"
        )
