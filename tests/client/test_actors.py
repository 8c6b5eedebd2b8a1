"""Several actors and a pose video, as the client sends them."""

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from live_avatar_client import Session, read_pose, side_by_side
from live_avatar_client.actors import actor_masks, joined
from live_avatar_client.command.cast import Cast
from live_avatar_client.video.pose import MAX_PIXELS, check_pose
from tests.client.pose_videos import held_sideways, pose_video
from tests.support.fake_avatar_server import FakeAvatar, serving

BLOCK = 7680
LEFT, RIGHT = np.array([[True, False]]), np.array([[False, True]])


def test_masks_go_up_with_start_and_every_actors_sound_in_a_row() -> None:
    """The server would hear one voice, or take the second one for more of the first."""
    avatar = FakeAvatar()
    voices = [[np.full(BLOCK, 0.25, np.float32)], [np.full(BLOCK // 2, 0.5, np.float32)]]
    with (
        serving(avatar) as url,
        Session(image=b"p", url=url, actors=[LEFT, RIGHT], resume=True) as session,
    ):
        blocks = list(session.stream(side_by_side(voices)))
    (start, *_) = [tensors for _, tensors in avatar.requests]
    np.testing.assert_array_equal(start["actor_masks"], [[[1, 0]], [[0, 1]]])
    rows = [t["actor_audio"] for _, t in avatar.requests if "actor_audio" in t]
    heard = np.concatenate(rows, axis=1)
    assert heard.shape == (2, BLOCK)
    np.testing.assert_array_equal(heard[:, -1], [0.25, 0])  # who has ended is silent
    np.testing.assert_allclose(blocks[0].audio[[0, -1]], [0.75, 0.25])  # as it is played


def test_chunks_of_any_length_stay_side_by_side() -> None:
    """A sample of difference each time is a second after a while."""
    first, second = np.arange(100, dtype=np.float32), np.arange(70, dtype=np.float32)
    voices = [np.split(first, [3, 50]), np.split(second, [10, 20, 30])]
    both = np.concatenate(list(side_by_side(voices)), axis=1)
    np.testing.assert_array_equal(both[0], first)
    np.testing.assert_array_equal(both[1], np.pad(second, (0, 30)))


def test_pose_goes_up_with_the_sound_of_its_frames() -> None:
    """A block whose sound is complete does not wait for what it follows."""
    avatar, shown = FakeAvatar(), iter(np.arange(30, dtype=np.uint8))
    frames = (np.full((2, 2, 3), grey, np.uint8) for grey in shown)
    with serving(avatar) as url, Session(image=b"p", url=url) as session:
        chunks = np.split(np.zeros(20 * 640, np.float32), [700, 5000])
        list(session.stream(chunks, pose=frames))
    sent = [(len(t["audio"]), len(t["pose"])) for _, t in avatar.requests if "audio" in t]
    assert sent == [(700, 2), (4300, 6), (7800, 12)]
    assert next(shown) == 20  # those beyond the sound are nobody's


def test_a_pose_that_cannot_be_read_on_ends_the_stream_in_its_words() -> None:
    """The video would go on without, and nobody would know why."""

    def broken() -> Iterator[np.ndarray]:
        yield np.zeros((2, 2, 3), np.uint8)
        raise ValueError("pose is torn")

    with serving(FakeAvatar()) as url, Session(image=b"p", url=url) as session:
        chunks = [np.zeros(640, np.float32)] * 3
        with pytest.raises(ValueError, match="pose is torn"):
            list(session.stream(chunks, pose=broken()))
    assert not any(t.name == "avatar-feeder" for t in threading.enumerate())


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        ([], "has no mask, expected a list of two or more: give one for each actor"),
        ([LEFT], "actors has one mask, .*speaks alone needs none, so leave actors out"),
        (LEFT, "actors has one mask, "),
        ("left.png", "actors has one mask, "),
        ([LEFT, np.ones((2, 3), bool)], "mask 1 is 3 x 2 pixels, mask 0 2 x 1; wanted one size"),
        ([LEFT, np.ones((1, 2, 3), bool)], r"mask 1 is bool \[1, 2, 3\]"),
        ([LEFT, b"no picture"], "mask 1 is no picture that can be read"),
        ([LEFT, "no/such.png"], "mask no/such.png is not a file: there is none"),
    ],
)
def test_masks_that_are_none_are_refused_before_anything_is_sent(masks: list, words: str) -> None:
    """The server would say it after the picture has travelled, or guess."""
    with pytest.raises(ValueError, match=words):
        Session(image=b"p", actors=masks)


def test_masks_that_do_not_go_together_are_named_by_their_files(tmp_path: Path) -> None:
    """Who has twenty masks would look for `actor 1` among them."""
    for name, columns in {"left": 40, "right": 1, "dark": 0}.items():
        light = np.zeros((4, 60), np.uint8)
        light[:, :columns] = 255
        Image.fromarray(light).save(tmp_path / f"{name}.png")
    left, right, dark = (tmp_path / f"{name}.png" for name in ("left", "right", "dark"))
    with pytest.raises(ValueError, match=r"dark\.png covers nothing; make it light where"):
        actor_masks([left, dark])
    with pytest.raises(ValueError, match=r"left\.png and mask .*right\.png overlap in 4 pixels"):
        actor_masks([left, right])


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_a_mask_is_turned_as_the_camera_was_held(kind: str, orientation: int) -> None:
    """The picture is, so a mask that was painted over it would lie on its side."""
    light, exif, files = np.zeros((2, 64, 96), np.uint8), Image.Exif(), []
    light[0, :32, :48], light[1, 32:, 48:], exif[0x112] = 255, 255, orientation
    for mask in light:
        files.append(io.BytesIO())
        Image.fromarray(mask).convert("RGB").save(files[-1], kind, exif=exif.tobytes())
    wanted = [np.asarray(ImageOps.exif_transpose(Image.open(file)).convert("L")) for file in files]
    found = actor_masks([file.getvalue() for file in files])
    np.testing.assert_array_equal(found, np.stack(wanted) >= 128)


def test_a_mask_is_where_its_picture_is_light(tmp_path: Path) -> None:
    """Painted masks are never quite black and white."""
    grey = np.array([[0, 100, 140, 255]], np.uint8)
    Image.fromarray(grey).save(tmp_path / "mask.png")
    other = np.array([[255, 0, 0, 0]], np.uint8)
    for given in (tmp_path / "mask.png", (tmp_path / "mask.png").read_bytes(), grey):
        np.testing.assert_array_equal(actor_masks([given, other]), [[[0, 0, 1, 1]], [[1, 0, 0, 0]]])


def test_sounds_of_other_lengths_or_actors_are_refused() -> None:
    """On one clock nobody is ahead."""
    with pytest.raises(ValueError, match="640 and 641 samples, wanted one length"):
        joined([np.zeros(640, np.float32), np.zeros(641, np.float32)])
    with (
        serving(FakeAvatar()) as url,
        Session(image=b"p", url=url, actors=[LEFT, RIGHT]) as session,
        pytest.raises(ValueError, match=r"float32 \[3, 640\], expected .* \[2, samples\]"),
    ):
        session.send(np.zeros((3, 640), np.float32))


SMALL, LARGE = np.zeros((2, 4, 3), np.uint8), np.zeros((6, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("pose", "words"),
    [
        ([SMALL, LARGE], "frame 1 is 8 x 6 pixels, frame 0 4 x 2; wanted one size: scale"),
        ("pose.mp4", r"pose is str, expected frames .*: read_pose\(path\) for a file"),
        (Path("pose.mp4"), r"pose is \w*Path, .*read_pose\(path\) for a file"),
        (["pose.mp4"], r"frame 0 is str \[\], expected uint8 RGB \[height, width, 3\]"),
        ([SMALL, SMALL / 2], r"frame 1 is float64 \[2, 4, 3\], expected uint8 RGB"),
    ],
)
def test_a_pose_that_is_none_is_told_in_our_words(pose: Any, words: str) -> None:
    """NumPy's words name neither the frame nor what was wanted."""
    with serving(FakeAvatar()) as url:
        with pytest.raises(ValueError, match=words), Session(image=b"p", url=url) as session:
            list(session.stream([np.zeros(BLOCK, np.float32)], pose=pose))
        with pytest.raises(ValueError, match=words), Session(image=b"p", url=url) as session:
            session.send(np.zeros(BLOCK, np.float32), pose=pose)


def test_rows_of_sound_before_a_session_of_one_tell_of_actors() -> None:
    """Who forgot the masks would read of mono sound, and mix the voices."""
    with (
        serving(FakeAvatar()) as url,
        Session(image=b"p", url=url) as session,
        pytest.raises(ValueError, match=r"rows are for several actors: Session\(actors="),
    ):
        session.send(np.zeros((2, 640), np.float32))


def test_a_pose_video_is_read_at_its_rate_and_made_no_larger_than_needed(tmp_path: Path) -> None:
    """At another rate it would run ahead of the sound; large frames would fill the wire."""
    small = list(read_pose(pose_video(tmp_path / "small.mp4")))
    assert [frame.shape for frame in small] == [(48, 64, 3)] * 10
    assert np.all(np.diff([frame.mean() for frame in small]) > 0)
    (large, *_) = read_pose(pose_video(tmp_path / "large.mp4", size=(1280, 720), frames=2))
    height, width, _ = large.shape
    assert height * width <= MAX_PIXELS
    assert abs(width / height - 16 / 9) < 0.02
    with pytest.raises(ValueError, match=r"has 30 frames per second, expected 25.*ffmpeg"):
        check_pose(pose_video(tmp_path / "fast.mp4", rate=30))
    *_, turned = read_pose(held_sideways(pose_video(tmp_path / "held.mp4")))
    assert turned.shape == (64, 48, 3)
    assert turned[40:].mean() > 100 > turned[:24].mean()  # what was right is below
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"text\.mp4 can't be read"):
        check_pose(tmp_path / "text.mp4")


@pytest.mark.parametrize(
    ("audio", "actors", "words"),
    [
        (None, [], "either --audio FILE, or --actor"),
        (Path("a.wav"), ["a.wav:b.png", "c.wav:d.png"], "either --audio FILE, or --actor"),
        (None, ["a.wav", "c.wav:d.png"], "--actor is 'a.wav', expected AUDIO:MASK"),
        (None, ["a.wav:b.png"], "--actor came once"),
    ],
)
def test_who_speaks_is_said_once_and_whole(audio: Path | None, actors: list, words: str) -> None:
    """A voice that is left out is noticed when the video is made."""
    with pytest.raises(ValueError, match=words):
        Cast.of(audio, actors)
    cast = Cast.of(None, ["a:b.wav:left.png", "c.wav:right.png"])
    assert cast.sounds == (Path("a:b.wav"), Path("c.wav"))
    assert cast.masks == (Path("left.png"), Path("right.png"))


@pytest.mark.parametrize("light", [1, 128, 255])
def test_masks_of_ones_are_light_where_they_are_one(light: int) -> None:
    """Who writes `mask` and `1 - mask` has two actors, and not two that cover nothing."""
    mask = np.zeros((4, 6), np.uint8)
    mask[:, :3] = light
    other = np.where(mask, 0, light).astype(np.uint8)
    np.testing.assert_array_equal(actor_masks([mask, other]), [mask > 0, mask == 0])
