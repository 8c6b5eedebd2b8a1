"""What a picture may cost: limits in pixels and bytes, memory and time of the worst ones taken."""

import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pipeline.pictures import decoding as picture_decoding
from pipeline.pictures.decoding import decode_picture
from pipeline.pictures.reference import PICTURE_FITS, read_picture
from tests.support.drawn_pictures import (
    chunk,
    encoded,
    outcome,
    png_header,
    png_of,
    png_with,
    segment,
    smooth,
    turned,
)

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
PROBE = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from PIL import Image
from pipeline.pictures.reference import read_picture
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
Image.init()
data = Path(sys.argv[1]).read_bytes()
before, begin = peak(), time.perf_counter()
image = read_picture(data, SimpleNamespace(height=704, width=384))
assert image.shape == (1, 3, 704, 384)
print(peak() - before, time.perf_counter() - begin)
"""


def large(width: int, height: int, mode: str) -> Image.Image:
    """Soft forms and grain, as photographs have them."""
    grain = Image.effect_noise((width // 4, height // 4), 40).resize((width, height))
    return Image.merge(mode, [grain] * len(mode)) if len(mode) > 1 else grain


WORST = {
    "PNG": (4000, 4000, "RGBA", {"compress_level": 1}),
    "WEBP": (3000, 2000, "RGBA", {"method": 0}),
    "AVIF": (3000, 2000, "RGBA", {"speed": 10, "subsampling": "4:4:4"}),
    "GIF": (4000, 4000, "L", {}),
    "BMP": (3300, 3300, "RGB", {}),
    "JPEG": (8000, 6250, "RGB", {"subsampling": 0}),
    "progressive": (4000, 3000, "RGB", {"subsampling": 0, "progressive": True}),
    "CMYK": (4000, 3000, "CMYK", {"progressive": True}),
    "strip": (770, 64_900, "RGB", {}),
    "detailed": (770, 15_500, "RGB", {"subsampling": 0, "quality": 100}),
}


@pytest.mark.parametrize("name", WORST)
def test_the_largest_pictures_taken_cost_little(name: str, tmp_path: Path) -> None:
    """One picture would slow down or end the sessions of all others."""
    width, height, mode, options = WORST[name]
    kind = name if name in ("PNG", "WEBP", "AVIF", "GIF", "BMP") else "JPEG"
    (tmp_path / "picture").write_bytes(encoded(large(width, height, mode), kind, **options))
    command = [sys.executable, "-c", PROBE, str(tmp_path / "picture")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    megabytes, seconds = map(float, done.stdout.split())
    assert megabytes < 130
    assert seconds < 6  # about 1.5 on two quiet cores


def header_only(kind: str, width: int, height: int) -> bytes:
    """A file that claims a size and holds next to nothing."""
    if kind == "PNG":
        return png_of(png_header(width, height), zlib.compress(b"\0"))
    if kind == "JPEG":
        data = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG"))
        struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    elif kind == "progressive JPEG":
        data = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG", progressive=True))
        struct.pack_into(">HH", data, data.index(b"\xff\xc2") + 5, height, width)
    elif kind == "GIF":
        data = bytearray(encoded(Image.new("L", (8, 8)), "GIF"))
        struct.pack_into("<HH", data, 6, width, height)
    elif kind == "BMP":
        data = bytearray(encoded(Image.new("RGB", (8, 8)), "BMP"))
        struct.pack_into("<ii", data, 18, width, height)
    else:
        data = bytearray(encoded(Image.new("RGB", (8, 8)), "WEBP"))
        struct.pack_into("<HH", data, 26, width, height)
    return bytes(data)


@pytest.mark.parametrize(
    ("kind", "sides", "limit"),
    [
        ("PNG", (4001, 4000), 16_000_000),
        ("PNG", (1, 50_000_000), 16_000_000),
        ("PNG", (2**31 - 1, 2**31 - 1), 16_000_000),
        ("PNG", (0, 5), 16_000_000),
        ("JPEG", (8000, 6251), 50_000_000),
        ("JPEG", (65_535, 65_535), 50_000_000),
        ("JPEG", (0, 10), 50_000_000),
        ("progressive JPEG", (4001, 3000), 12_000_000),
        ("GIF", (65_535, 245), 16_000_000),
        ("BMP", (4000, 4001), 16_000_000),
        ("WebP", (3001, 2000), 6_000_000),
        ("WebP", (16_383, 16_383), 6_000_000),
    ],
)
def test_too_large_a_picture_hears_both_sizes(
    kind: str, sides: tuple[int, int], limit: int
) -> None:
    """A header of a few bytes may claim gigabytes; nobody could guess the limit."""
    begin = time.perf_counter()
    with pytest.raises(
        ValueError, match=f"{kind} file of {sides[0]} x {sides[1]} pixels, .*{limit}"
    ):
        decode_picture(header_only(kind, *sides))
    assert time.perf_counter() - begin < 0.5


def test_avif_pictures_over_the_limit_are_refused() -> None:
    """Its decoder says the size before it makes room for it."""
    with pytest.raises(ValueError, match=r"an AVIF file of 3001 x 2000 pixels, .* 6000000"):
        decode_picture(encoded(Image.new("RGB", (3001, 2000)), "AVIF", speed=10))


def run_length_bmp(side: int) -> bytes:
    data = bytearray(encoded(Image.new("P", (side, side)).convert("L"), "BMP"))
    struct.pack_into("<I", data, 30, 1)
    return bytes(data)


def many_frames(kind: str) -> bytes:
    frames = [Image.new("L", (8, 8), n % 256) for n in range(1000)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    "data",
    [
        run_length_bmp(1100),
        encoded(smooth(), "GIF")[:13] + b"!\xfe" + b"\1a" * 1_000_000,
        png_with(*[chunk(b"abcd", b"")] * 500_000),
        b"\xff\xd8" + segment(0xFE, b"") * 1_000_000,
        encoded(smooth(), "JPEG")[:-2] + segment(0xFE, b"") * 1_000_000 + b"\xff\xd9",
        encoded(smooth(), "JPEG")[:-2] + b"\xff\xda\0\2" * 500 + b"\xff\xd9",
        b"RIFF\0\0\0\0WEBPVP8X" + b"abcd\0\0\0\0" * 1_000_000,
        png_of(png_header(64, 64), zlib.compress(bytes(2**28))),
    ],
)
def test_files_that_would_run_on_end_soon(data: bytes) -> None:
    """Small parts by the million take the decoders minutes."""
    begin = time.perf_counter()
    got = outcome(data)
    assert got.startswith("image ") if isinstance(got, str) else got.ndim == 3
    assert time.perf_counter() - begin < 2


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_only_the_first_of_a_thousand_pictures_is_decoded(kind: str) -> None:
    """The others would take time and memory for nothing."""
    data, begin = many_frames(kind), time.perf_counter()
    assert decode_picture(data).shape == (8, 8, 3)
    assert time.perf_counter() - begin < 0.5


def test_too_many_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would be held several times over."""
    monkeypatch.setattr(picture_decoding, "MAX_BYTES", 10)
    with pytest.raises(ValueError, match=r"^image has \d+ bytes, at most 10 are taken$"):
        decode_picture(encoded(smooth()))


@pytest.mark.parametrize("fit", PICTURE_FITS)
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("way", ["JPEG", "progressive", "PNG"])
def test_a_picture_made_smaller_while_decoding_looks_the_same(
    fit: str, orientation: int, way: str
) -> None:
    """What saves time and memory must not cost sharpness."""
    sides = (3205, 2403) if orientation == 1 else (2403, 3205)
    colours = smooth(*sides)
    grain = Image.effect_noise((sides[1] // 3, sides[0] // 3), 20).resize(colours.size)
    picture = Image.blend(colours, Image.merge("RGB", [grain] * 3), 0.5)
    options = {"compress_level": 1} if way == "PNG" else {"progressive": way == "progressive"}
    kind = "PNG" if way == "PNG" else "JPEG"
    data = encoded(picture, kind, exif=turned(orientation), **options)
    config = SimpleNamespace(height=704, width=384)
    got = read_picture(data, config, fit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture_decoding, "WHOLE_PIXELS", 10**9)
        wanted = read_picture(data, config, fit)
    assert not np.array_equal(got, wanted)  # it was made smaller
    assert 10 * np.log10(4 / ((got - wanted) ** 2).mean()) > 40


def test_long_strips_are_not_scaled_up_whole() -> None:
    """The release scales all of a strip before it cuts: gigabytes for what never shows."""
    config, begin = SimpleNamespace(height=704, width=384), time.perf_counter()
    for fit in PICTURE_FITS:
        image = read_picture(encoded(Image.new("L", (1, 1_000_000), 255)), config, fit)
        assert (image[:, :, 100:600] == 1).all()
    assert time.perf_counter() - begin < 2
