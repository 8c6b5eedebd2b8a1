"""Checkouts in odd folders, on disks that cannot be written, under odd settings."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy import checkout
from deploy.downloads import triton
from tests.support.odd_checkout import copy, error_lines, furnish, make
from tests.support.programs import needs_fetched_server

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
AT_ONCE_S = 10
"""Half a second on a machine that is free; making an environment takes longer than this."""

UNFIT = ["a:b", 'a "b', "a $b", "a `b", "a \\b", "a\nb", "a\tb", "a\x7fb", os.fsdecode(b"a\xe9b")]


@needs_make
@pytest.mark.parametrize("name", UNFIT, ids=ascii)
def test_a_folder_that_cannot_work_is_refused_at_once_in_one_line(
    tmp_path: Path, name: str
) -> None:
    """`make demo` would take a minute, then end in a traceback, or in a command that won't run."""
    folder = copy(tmp_path / name)
    began = time.monotonic()
    done = make(folder, "demo")
    assert time.monotonic() - began < AT_ONCE_S
    assert done.returncode != 0
    (line,) = error_lines(done)
    assert re.match("error: the checkout's folder .* has .* move the checkout", line)
    assert not (folder / ".venv").exists()


@needs_make
@pytest.mark.triton
@needs_fetched_server
@pytest.mark.parametrize("name", ["it's é (1) #2; %s & [x]*~ {a,b}"])
def test_the_demo_is_made_in_a_folder_of_any_other_name(tmp_path: Path, name: str) -> None:
    """Triton starts models by a line of bash: a space cost 180 s, and ended in a riddle."""
    names = ("artifacts", "client", "examples", "export", "model_repository", "pipeline")
    folder = copy(tmp_path / name, *names)
    furnish(folder)
    home = folder / "build" / "tritonserver"
    shutil.copytree(triton.HOME, home, copy_function=os.link, symlinks=True)
    (folder / "my photos").mkdir()
    shutil.copy(folder / "examples" / "portrait.png", folder / "my photos" / "it's $HOME.png")
    shutil.copy(folder / "examples" / "speech.flac", folder / 'a "speech".flac')
    done = make(
        folder,
        "demo",
        "PORTRAIT=my photos/it's $HOME.png",
        'SPEECH=a "speech".flac',
        "OUT=my films/the `first` $x.mp4",
        "REPOSITORY=build/a repository",
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "my films" / "the `first` $x.mp4").stat().st_size > 10_000
    assert not [path for path in (folder / "build").rglob("*") if path.is_symlink() and
                path.parent.parent.name == "demo_server"]  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy(tmp_path_factory.mktemp("plain") / "checkout")


in_a_namespace = pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0,
    reason="no mount namespace: not root, or forbidden here",
)


def on_disk(folder: Path, options: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`make` where the checkout lies on a mount of these options; the mount is gone afterwards."""
    script = f'mount --bind . . && mount -o "{options}" . && cd "$PWD"'
    code = (
        "import sys; from pathlib import Path; from tests.support.odd_checkout import make\n"
        "done = make(Path(sys.argv[1]), *sys.argv[3:], before=sys.argv[2])\n"
        "sys.stderr.write(done.stderr); sys.exit(done.returncode)"
    )
    command = ["unshare", "-m", sys.executable, "-c", code, str(folder), script, *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@needs_make
@in_a_namespace
@pytest.mark.parametrize("goal", ["setup", "setup-dev", "demo", "serve", "test"])
def test_a_read_only_checkout_is_refused_in_one_line(plain: Path, goal: str) -> None:
    """venv ends in a traceback."""
    done = on_disk(plain, "remount,ro,bind", goal)
    assert done.returncode != 0
    (line,) = error_lines(done)
    assert "cannot be written (a read-only file system): make it writable" in line
    assert make(plain, "status").returncode != 0  # and the others still run


@needs_make
@in_a_namespace
def test_help_and_stop_work_in_a_read_only_checkout(plain: Path) -> None:
    """They write nothing."""
    for goal in ("help", "stop"):
        done = on_disk(plain, "remount,ro,bind", goal)
        assert done.returncode == 0, done.stderr


@in_a_namespace
def test_a_disk_that_fills_up_under_the_repository_is_told_in_one_line(tmp_path: Path) -> None:
    """A copied folder's failure is a list of hundred file names."""
    repo = Path(__file__).parents[2]
    command = f"{sys.executable} -m export.repository.assemble --artifacts artifacts/demo --out"
    script = f'mount -t tmpfs -o size=200k tmpfs "$0" && exec {command} "$0/repository"'
    full = ["unshare", "-m", "sh", "-c", script, str(tmp_path)]
    done = subprocess.run(full, cwd=repo, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert re.search("is not written .*No space left on device.*: make room and rights", line)


def test_a_folder_that_others_own_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For root everything is writable, so the right is taken away from the question."""
    monkeypatch.setattr(checkout.os, "access", lambda *_: False)
    with pytest.raises(RuntimeError, match=r"cannot be written \(no permission\).*folder of your"):
        checkout.check_writable(tmp_path / "not" / "there yet")


def test_a_file_in_the_place_of_a_folder_is_refused_in_words(tmp_path: Path) -> None:
    """`mkdir` says "File exists", and not what to do."""
    (tmp_path / "build").touch()
    with pytest.raises(RuntimeError, match="build is a file, wanted a folder"):
        checkout.check_writable(tmp_path / "build" / "server")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(RuntimeError, match="links to nothing"):
        checkout.check_writable(tmp_path / "link" / "server")


def test_a_full_disk_is_seen_before_anything_is_made(tmp_path: Path) -> None:
    """pip ends in the middle, after a minute."""
    with pytest.raises(RuntimeError, match=r"has \d+ MB free, wanted 1000000000"):
        checkout.check_space(tmp_path / "not" / "there", 10**9)
    checkout.check_space(tmp_path, 0)
