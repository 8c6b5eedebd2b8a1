"""Pictures that are made to take memory: what the real decoder needs for them, at its peak."""

import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.support.drawn_pictures import encoded, png_header, png_of

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[3]
PROBE = """
import sys
from pathlib import Path
from types import SimpleNamespace
from PIL import Image
from pipeline.pictures.reference import read_picture
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
Image.init()
data = Path(sys.argv[1]).read_bytes()
before, words = peak(), "taken"
try:
    read_picture(data, SimpleNamespace(height=704, width=384))
except ValueError as error:
    words = str(error)
print(round(peak() - before), words)
"""


def striped(width: int, height: int, depth: int, colour: int, bytes_per_pixel: int) -> bytes:
    """A PNG file of black rows, packed a thousandfold."""
    packer, num_bytes = zlib.compressobj(1), height * (1 + width * bytes_per_pixel)
    million = bytes(1_000_000)
    pixels = b"".join(packer.compress(million) for _ in range(num_bytes // len(million)))
    pixels += packer.compress(bytes(num_bytes % len(million))) + packer.flush()
    return png_of(png_header(width, height, depth, colour), pixels)


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "30000 x 30000": (lambda: striped(30_000, 30_000, 8, 0, 1), "30000 x 30000 pixels"),
    "1 x 49 million": (lambda: striped(1, 49_000_000, 8, 0, 1), "1 x 49000000 pixels"),
    "1 x 16 million": (lambda: striped(1, 16_000_000, 8, 0, 1), "at most 1000000 a side"),
    "1 x 1 million": (lambda: striped(1, 1_000_000, 8, 0, 1), "taken"),
    "49 million x 1": (lambda: striped(49_000_000, 1, 8, 0, 1), "49000000 x 1 pixels"),
    "16 bits and alpha": (lambda: striped(4000, 4000, 16, 6, 8), "taken"),
    "a JPEG of 49 million": (lambda: encoded(Image.new("L", (65_000, 754)), "JPEG"), "taken"),
}
"""Files of some kilobytes to two megabytes, and what is said to them."""


@pytest.mark.parametrize("kind", BOMBS)
def test_a_picture_made_to_take_memory_takes_little(kind: str, tmp_path: Path) -> None:
    """30,000 x 30,000 pixels are 2.7 GB: the system would end the process of all sessions."""
    make, words = BOMBS[kind]
    (tmp_path / "picture").write_bytes(make())
    command = [sys.executable, "-c", PROBE, str(tmp_path / "picture")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    megabytes, said = done.stdout.split(maxsplit=1)
    assert words in said
    assert int(megabytes) < (130 if words == "taken" else 10)
