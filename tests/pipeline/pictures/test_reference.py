"""Reference pictures: their pixels, cover resize, the size rule."""

import io

import numpy as np
import pytest
from PIL import Image

import pipeline.pictures.reference as picture_module
from benchmarks.planner.video_size import fit_size
from pipeline.pictures.decoding import decode_picture
from pipeline.pictures.reference import check_rgb, fit_picture, fit_short_side
from tests.golden.fixtures import manifest, needs_golden


def pixels(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


def encoded(array: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def test_png_decodes_to_its_pixels() -> None:
    """Nothing may be lost on the way in."""
    rgb = pixels(20, 30)
    assert np.array_equal(decode_picture(encoded(rgb)), rgb)


def test_jpeg_decodes() -> None:
    """The most common format; grey survives its compression to a few levels."""
    rgb = np.full((32, 48, 3), 100, np.uint8)
    got = decode_picture(encoded(rgb, "JPEG", quality=95))
    assert got.shape == rgb.shape
    assert np.abs(got.astype(int) - 100).max() <= 2


def test_transparency_lies_over_black() -> None:
    """Hidden colours of transparent pixels would show."""
    rgba = np.full((4, 4, 4), 200, np.uint8)
    rgba[:2, :, 3] = 0
    rgba[2:, :, 3] = 255
    got = decode_picture(encoded(rgba))
    assert not got[:2].any()
    assert (got[2:] == 200).all()


def test_grey_palette_and_16_bit_pictures_become_rgb() -> None:
    """Scanners and screenshots write these."""
    grey = pixels(8, 9, 1)[..., 0]
    assert np.array_equal(decode_picture(encoded(grey)), np.repeat(grey[..., None], 3, 2))
    deep = grey.astype(np.uint16) * 257
    assert np.array_equal(decode_picture(encoded(deep))[..., 0], grey)
    buffer = io.BytesIO()
    Image.fromarray(grey).convert("P").save(buffer, "PNG")
    assert decode_picture(buffer.getvalue()).shape == (8, 9, 3)


def test_exif_orientation_is_applied() -> None:
    """Phones store portraits lying down."""
    rgb = pixels(16, 32)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    got = decode_picture(encoded(rgb, "PNG", exif=exif))
    assert np.array_equal(got, np.rot90(rgb, k=-1))


def test_no_picture_at_all_is_refused_in_words() -> None:
    """A traceback would tell a client nothing."""
    with pytest.raises(ValueError, match=r"^image is empty, wanted a PNG, JPEG, "):
        decode_picture(b"")


def test_raw_pictures_over_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would be held several times over."""
    monkeypatch.setattr(picture_module, "MAX_PIXELS", 99)
    with pytest.raises(ValueError, match="10 x 10 pixels, wanted at least one and at most 99"):
        check_rgb(pixels(10, 10))


@pytest.mark.parametrize("wrong", [pixels(4, 4, 4), np.zeros((4, 4, 3), np.float32)])
def test_raw_pictures_must_be_rgb_bytes(wrong: np.ndarray) -> None:
    """Floats or a fourth channel would be read as something else."""
    with pytest.raises(ValueError, match="wanted uint8"):
        check_rgb(wrong)


def test_a_picture_of_the_right_size_is_not_touched() -> None:
    """Bit parity with the release depends on it."""
    rgb = pixels(64, 128)
    image = fit_picture(rgb, 64, 128)
    assert np.array_equal(fit_short_side(rgb, 64, 128), image)
    assert image.shape == (1, 3, 64, 128)
    assert image.dtype == np.float32
    wanted = rgb.astype(np.float32) / 255 * 2 - 1
    assert np.array_equal(image[0].transpose(1, 2, 0), wanted)
    assert (image.min(), image.max()) == (-1, 1)


@pytest.mark.parametrize("size", [(30, 200), (200, 30), (1280, 720), (65, 64), (1, 1)])
def test_pictures_cover_the_frame(size: tuple[int, int]) -> None:
    """The release leaves black bars where the picture is flatter than the video."""
    image = fit_picture(np.full((*size, 3), 255, np.uint8), 128, 64)
    assert image.shape == (1, 3, 128, 64)
    assert (image == 1).all()


@pytest.mark.parametrize(
    ("size", "video", "bars"),
    [
        ((1280, 720), (704, 384), (11, 11, 0, 0)),  # a portrait of the release
        ((720, 1280), (384, 704), (0, 0, 11, 11)),
        ((200, 201), (64, 192), (0, 0, 64, 64)),
        ((64, 97), (64, 128), (0, 0, 15, 16)),
        ((2000, 500), (128, 64), (0, 0, 0, 0)),
    ],
)
def test_the_release_s_fit_leaves_its_black_bars(
    size: tuple[int, int], video: tuple[int, int], bars: tuple[int, ...]
) -> None:
    """Parity runs with pictures of another aspect would start from another reference."""
    image = fit_short_side(np.full((*size, 3), 255, np.uint8), *video)[0]
    top, bottom, left, right = bars
    assert image.shape == (3, *video)
    inside = image[:, top : video[0] - bottom, left : video[1] - right]
    assert (inside == 1).all()
    assert image.sum() == 2 * inside.size - image.size  # all else is black


@pytest.mark.parametrize("fit", [fit_picture, fit_short_side])
def test_the_centre_is_kept(fit) -> None:
    """Faces are in the middle."""
    rgb = np.zeros((64, 192, 3), np.uint8)
    rgb[:, 64:128] = 255
    assert (fit(rgb, 64, 64) == 1).all()


def test_shrinking_averages() -> None:
    """Without it fine patterns turn into moiré."""
    rgb = np.zeros((640, 640, 3), np.uint8)
    rgb[::2] = 255
    assert np.abs(fit_picture(rgb, 64, 64)[..., 4:-4, :]).max() < 0.05


@needs_golden
def test_video_sizes_are_the_release_s() -> None:
    """Another size is another video, and a size over the budget does not fit the cache."""
    for height, width, area, *wanted in manifest()["size_table_h_w_area_to_H_W"]:
        assert list(fit_size(height, width, area)) == wanted, (height, width, area)
