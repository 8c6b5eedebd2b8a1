"""A place that can't be written is told in the system's words, early, and is left as it was."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from live_avatar_client import VideoWriter
from tests.client.output.test_output import frames, num_frames
from tests.support.command_line import ROOT


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
    for parent in folder.parents:
        if parent == Path(tempfile.gettempdir()):
            break
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
