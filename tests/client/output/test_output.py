"""A video appears when it is whole, and nothing of the user's is destroyed on the way."""

import contextlib
import os
import stat
from pathlib import Path

import av
import numpy as np
import pytest

from live_avatar_client import VideoWriter
from tests.support.sounds import tones, write_wav


def frames(count: int = 12) -> np.ndarray:
    """Noise, so that the file grows by more than FFmpeg's buffer."""
    return np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), np.uint8)


def num_frames(path: Path) -> int:
    with av.open(f"file:{path}") as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize("link", ["itself", "symlink", "hard link", "dotted"])
def test_the_sound_it_is_made_from_is_never_written_over(tmp_path: Path, link: str) -> None:
    """`--audio talk.mp4 --out talk.mp4` ended with a talk of 0 bytes."""
    speech = write_wav(tmp_path / "talk.wav", tones(1, 1.0, 16_000), 16_000)
    talk = tmp_path / "talk.mp4"
    with VideoWriter(talk, audio_path=speech) as writer:
        writer.write(frames())
    before = talk.read_bytes()
    out = {"itself": talk, "dotted": tmp_path / ".." / tmp_path.name / "talk.mp4"}.get(
        link, tmp_path / "other.mp4"
    )
    if link == "symlink":
        out.symlink_to(talk)
    if link == "hard link":
        os.link(talk, out)
    with pytest.raises(ValueError, match=r"it is the audio .* itself"):
        VideoWriter(out, audio_path=talk)
    assert talk.read_bytes() == before


def test_it_appears_only_when_it_is_closed(tmp_path: Path) -> None:
    """Half a file under the right name is taken for the whole one."""
    out = tmp_path / "a.mp4"
    out.write_bytes(b"older")
    with VideoWriter(out) as writer:
        writer.write(frames(50))
        assert out.read_bytes() == b"older"
    assert num_frames(out) == 50
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_what_came_before_an_exception_is_kept(tmp_path: Path) -> None:
    """What was made before the server failed is what the user has to look at."""
    out = tmp_path / "a.mp4"
    with contextlib.suppress(KeyboardInterrupt), VideoWriter(out) as writer:
        writer.write(frames(24))
        raise KeyboardInterrupt
    assert writer.kept
    assert writer.seconds == pytest.approx(24 / 25)
    assert num_frames(out) == 24


def test_without_a_frame_an_older_file_stays(tmp_path: Path) -> None:
    """A server that refuses must not cost the video of yesterday."""
    out = tmp_path / "a.mp4"
    out.write_bytes(b"older")
    with pytest.raises(ValueError, match="server"), VideoWriter(out) as writer:
        raise ValueError("the server refused")
    assert not writer.kept
    assert out.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_a_link_stays_one_and_leads_to_the_new_video(tmp_path: Path) -> None:
    """People keep their videos on another disk and link to them."""
    (tmp_path / "disk").mkdir()
    target, out = tmp_path / "disk" / "real.mp4", tmp_path / "a.mp4"
    target.write_bytes(b"older")
    out.symlink_to(target)
    with VideoWriter(out) as writer:
        writer.write(frames())
    assert out.is_symlink()
    assert num_frames(target) == 12
    dangling = tmp_path / "b.mp4"
    dangling.symlink_to(tmp_path / "disk" / "new.mp4")
    with VideoWriter(dangling) as writer:
        writer.write(frames())
    assert num_frames(tmp_path / "disk" / "new.mp4") == 12
    assert sorted(os.listdir(tmp_path / "disk")) == ["new.mp4", "real.mp4"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_any_new_file(tmp_path: Path, umask: int) -> None:
    """A temporary file's 0600 would shut out the web server that is to show the video."""
    before = os.umask(umask)
    try:
        with VideoWriter(tmp_path / "a.mp4") as writer:
            writer.write(frames(1))
        (tmp_path / "b.mp4").touch(0o640)
        os.chmod(tmp_path / "b.mp4", 0o640)
        with VideoWriter(tmp_path / "b.mp4") as writer:
            writer.write(frames(1))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.mp4").stat().st_mode) == 0o666 & ~umask
    assert stat.S_IMODE((tmp_path / "b.mp4").stat().st_mode) == 0o640


def test_a_write_protected_file_is_not_replaced(tmp_path: Path) -> None:
    """Renaming over a file asks nobody for its permission, and root may write anything."""
    out = tmp_path / "a.mp4"
    out.write_bytes(b"precious")
    out.chmod(0o444)
    with pytest.raises(ValueError, match=r"a\.mp4 can't be written: .*protected"):
        VideoWriter(out).open()
    assert out.read_bytes() == b"precious"
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_two_writers_of_one_name_do_not_mix(tmp_path: Path) -> None:
    """Two terminals, the same command: one of two whole videos is there in the end."""
    out = tmp_path / "a.mp4"
    with VideoWriter(out) as one, VideoWriter(out) as two:
        for _ in range(3):
            one.write(frames(10))
            two.write(frames(20))
    assert num_frames(out) == 30  # the outer one is closed last
    assert os.listdir(tmp_path) == ["a.mp4"]
