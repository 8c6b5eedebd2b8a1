"""Formats of encoded pictures: which are taken, how the others are told apart, errors in words."""

MAX_PIXELS = {
    "PNG": 16_000_000,
    "JPEG": 50_000_000,  # decoded row by row, smaller if it is large
    "WebP": 6_000_000,  # the decoders of this and the next hold several copies of the picture
    "AVIF": 6_000_000,
    "BMP": 16_000_000,
    "GIF": 16_000_000,
}
"""Of the formats that are taken."""
MAX_SIDE = 1_000_000
"""A decoder keeps eight bytes for each row, however short it is."""
TAKEN_FORMATS = tuple(MAX_PIXELS)
TAKEN = f"a {', '.join(TAKEN_FORMATS[:-1])} or {TAKEN_FORMATS[-1]} file"
MAX_PARTS = 100_000  # segments, chunks or blocks of one file that are walked through

_SIGNATURES = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0"),
    "PDF": (b"%PDF",),
    "PostScript": (b"%!PS",),
    "Photoshop": (b"8BPS",),
    "icon (ICO)": (b"\0\0\1\0",),
    "JPEG 2000": (b"\0\0\0\x0cjP  ", b"\xffO\xffQ"),
    "JPEG XL": (b"\0\0\0\x0cJXL ", b"\xff\x0a"),
    "QOI": (b"qoif",),
    "ZIP": (b"PK\3\4",),
    "gzip": (b"\x1f\x8b",),
    "Matroska or WebM": (b"\x1aE\xdf\xa3",),
}
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
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
    for name, signatures in _SIGNATURES.items():
        if head.startswith(signatures):
            return name if name in TAKEN_FORMATS else _file(name)
    return _text(head)


def _boxed(head: bytes) -> str:
    """AVIF, HEIC and films share one container and differ in the brands that it names."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, end, 4))}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    return _file("HEIC") if brands.intersection(_HEIC_BRANDS) else "a film (MP4 or its kin)"


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


def _file(kind: str) -> str:
    return f"{'an' if kind[0] in 'AEIOUi' else 'a'} {kind} file"


def cut_off(kind: str) -> PictureError:
    """The words for a file that ends too early."""
    return PictureError(f"image is cut off: the {kind} file ends before its last pixel")


def damaged(kind: str, what: str = "it can't be decoded, perhaps it is cut off") -> PictureError:
    """The words for a file that no decoder takes."""
    return PictureError(f"image is a damaged {kind} file: {what}")


def too_many(kind: str, parts: str, limit: int = MAX_PARTS) -> PictureError:
    """The words for a file of more than `limit` parts."""
    return PictureError(f"image is a {kind} file of more than {limit} {parts}")


def check_pixels(kind: str, height: int, width: int, limit: int | None = None) -> None:
    """PictureError for a picture without pixels or with more than are taken."""
    limit = MAX_PIXELS[kind] if limit is None else limit
    if height < 1 or width < 1 or height * width > limit:
        raise PictureError(
            f"image is {_file(kind)} of {width} x {height} pixels, "
            f"wanted at least one and at most {limit}; scale it down"
        )
    if max(height, width) > MAX_SIDE:
        raise PictureError(
            f"image is {_file(kind)} of {width} x {height} pixels, "
            f"wanted at most {MAX_SIDE} a side; crop it"
        )
