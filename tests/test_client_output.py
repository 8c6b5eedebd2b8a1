"""A video appears when it is whole, and nothing of the user's is destroyed on the way."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from live_avatar_client import VideoWriter
from tests.sounds import tones, write_wav

ROOT = Path(__file__).parents[1]


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


def bad_places(folder: Path) -> dict[str, tuple[Path, str]]:
    (folder / "folder.mp4").mkdir()
    os.mkfifo(folder / "pipe.mp4")
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    (folder / "file").touch()
    return {
        "folder": (folder / "folder.mp4", "there is a folder of that name"),
        "pipe": (folder / "pipe.mp4", "a pipe or a device has that name"),
        "loop": (folder / "loop.mp4", "Too many levels of symbolic links"),
        "long": (folder / ("x" * 300 + ".mp4"), "File name too long"),
        "missing": (folder / "none" / "a.mp4", "is not a folder"),
        "file": (folder / "file" / "a.mp4", "is not a folder"),
        "proc": (Path("/proc/a.mp4"), "No such file or directory"),
        "type": (folder / "a.txt", r"expected \.mp4, \.mov, \.mkv"),
    }


@pytest.mark.parametrize(
    "kind", ["folder", "pipe", "loop", "long", "missing", "file", "proc", "type"]
)
def test_a_place_that_cannot_be_written_is_told_on_entering(tmp_path: Path, kind: str) -> None:
    """Told after the first frames, a place on the server was taken in vain."""
    out, words = bad_places(tmp_path)[kind]
    with pytest.raises(ValueError, match=rf"^video .* can't be written: .*{words}"):
        VideoWriter(out).open()
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".live-avatar")]


def test_the_longest_name_that_the_system_takes_is_taken(tmp_path: Path) -> None:
    """A temporary name made of it would be too long."""
    out = tmp_path / ("x" * 251 + ".mp4")
    with VideoWriter(out) as writer:
        writer.write(frames(1))
    assert num_frames(out) == 1


_FILL = """
import sys, numpy as np
from live_avatar_client import VideoWriter
with VideoWriter(sys.argv[1]) as writer:
    print("entered", flush=True)
    for _ in range(40):
        writer.write(np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), np.uint8))
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "client")])
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, timeout=60
    )


def last_line(ended: subprocess.CompletedProcess[str]) -> str:
    return ended.stderr.strip().splitlines()[-1]


@pytest.fixture
def full_disk(tmp_path: Path) -> str:
    """A folder on a disk of 200 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk],
            capture_output=True,
            text=True,
        )
        if os.geteuid() == 0 and shutil.which("mount")
        else None
    )
    if made is None or made.returncode:
        pytest.skip("mounting a small disk needs root and leave to mount")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_told_and_leaves_what_was_there(full_disk: Path) -> None:
    """Half a video without its index can't be played: better the older one."""
    out = full_disk / "a.mp4"
    out.write_bytes(b"older")
    ended = run(sys.executable, "-c", _FILL, str(out))
    words = f"ValueError: video {out} can't be written: {os.strerror(errno.ENOSPC)}"
    assert last_line(ended) == words
    assert out.read_bytes() == b"older"
    assert os.listdir(full_disk) == ["a.mp4"]


@pytest.mark.parametrize("limit_kb", [40, 100, 200])
def test_a_file_that_may_not_grow_is_told(tmp_path: Path, limit_kb: int) -> None:
    """Quotas and limits end a write as a full disk does, in the middle or at the end."""
    script = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_kb} * 1024,) * 2)"
    ended = run(sys.executable, "-c", script + _FILL, str(tmp_path / "a.mp4"))
    assert last_line(ended).endswith(f"can't be written: {os.strerror(errno.EFBIG)}")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(
    os.geteuid() == 0 and not shutil.which("setpriv"), reason="root writes anywhere; no setpriv"
)
def test_a_folder_without_permission_is_told_on_entering(tmp_path: Path) -> None:
    """The commonest one: a folder of somebody else."""
    folder = tmp_path / "theirs"
    folder.mkdir(0o755)
    folder.chmod(0o555)
    as_nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    script = f"import os; os.chdir({str(folder)!r})" if os.geteuid() else ""
    prefix = () if os.geteuid() else as_nobody
    for parent in [folder, *folder.parents][1:4]:
        parent.chmod(parent.stat().st_mode | 0o055)  # pytest's folders are for their owner only
    probe = run(*prefix, sys.executable, "-c", "import live_avatar_client")
    if probe.returncode:
        pytest.skip(f"another user can't run this Python: {last_line(probe)}")
    ended = run(*prefix, sys.executable, "-c", script + _FILL, str(folder / "a.mp4"))
    assert last_line(ended).endswith(f"can't be written: {os.strerror(errno.EACCES)}")
    assert "entered" not in ended.stdout


def test_a_disk_that_fails_at_the_end_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network disks say so when the last bytes leave, not when they are written."""

    def failing(handle: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", failing)
    out = tmp_path / "a.mp4"
    out.write_bytes(b"older")
    with (
        pytest.raises(ValueError, match=os.strerror(errno.EDQUOT)),
        VideoWriter(out) as writer,
    ):
        writer.write(frames())
    assert not writer.kept
    assert out.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_a_video_that_has_ended_takes_no_frame(tmp_path: Path) -> None:
    """It would begin the file anew and lose the first one."""
    writer = VideoWriter(tmp_path / "a.mp4")
    writer.write(frames())
    writer.close()
    with pytest.raises(RuntimeError, match="has ended"):
        writer.write(frames())
    assert num_frames(tmp_path / "a.mp4") == 12


@pytest.mark.parametrize("scale", [10_000, 0, -1])
def test_a_scale_beyond_reason_is_refused(tmp_path: Path, scale: int) -> None:
    """Memory, and hours, end before such a picture does."""
    with pytest.raises(ValueError, match=f"scale {scale} .*64 at most"):
        VideoWriter(tmp_path / "a.mp4", scale=scale)
    with (
        pytest.raises(ValueError, match="16384x16384 pixels, at most 8192"),
        VideoWriter(tmp_path / "a.mp4", scale=64) as writer,
    ):
        writer.write(np.zeros((1, 256, 256, 3), np.uint8))
    assert os.listdir(tmp_path) == []
