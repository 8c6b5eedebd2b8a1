"""Several actors and a pose video, as the client sends them."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
        ([], "give one for each actor"),
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


def test_a_mask_is_where_its_picture_is_light(tmp_path: Path) -> None:
    """Painted masks are never quite black and white."""
    grey = np.array([[0, 100, 140, 255]], np.uint8)
    Image.fromarray(grey).save(tmp_path / "mask.png")
    given = [tmp_path / "mask.png", (tmp_path / "mask.png").read_bytes(), grey]
    np.testing.assert_array_equal(actor_masks(given), [[[0, 0, 1, 1]]] * 3)


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
