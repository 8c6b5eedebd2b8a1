"""Every end of a command is one line and an exit code, and the video so far is kept."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from rich.console import Console

from live_avatar_client import VideoWriter
from live_avatar_client.command.ending import held, kept, run
from tests.support.command_line import ended, here, started, stream
from tests.support.fake_avatar_server import FakeAvatar, serving
from tests.support.sounds import tones, write_coded, write_wav

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def fake_url() -> Iterator[str]:
    with serving(FakeAvatar()) as url:
        yield url


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "speech.wav", tones(1, 10.0, 16_000), 16_000)


@contextmanager
def talking(speech: Path, out: Path) -> Iterator[tuple[subprocess.Popen, FakeAvatar]]:
    """A talk at the speed of speech, yielded when two seconds of it were sent."""
    avatar = FakeAvatar()
    with serving(avatar) as url:
        process = started(*stream(url, speech, out, "--realtime"))
        wait_for(lambda: len(avatar.requests) > 50 or process.poll() is not None)
        yield process, avatar


def wait_for(done: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 40
    while not done():
        assert time.monotonic() < until_s
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("times", [1, 5])
def test_a_signal_keeps_the_video_so_far_and_frees_the_place(
    tmp_path: Path, speech: Path, number: signal.Signals, times: int
) -> None:
    """The second Ctrl-C of an impatient user gave a traceback, SIGTERM lost video and place."""
    out = tmp_path / "a.mp4"
    with talking(speech, out) as (process, avatar):
        for _ in range(times):
            process.send_signal(number)
            time.sleep(0.05)
        code, said = ended(process)
        assert avatar.cancelled.wait(5)
    assert code == 128 + number
    last = said.strip().splitlines()[-1]
    assert last.startswith("stopped; kept the first ")
    assert last.endswith(f" s in {out}")
    with av.open(str(out)) as container:
        kept_s = container.streams.video[0].frames / 25
    assert 0 < kept_s < 10
    assert f"{kept_s:.1f} s" in last
    assert not list(tmp_path.glob(".live-avatar*"))


def test_a_signal_before_the_first_frame_leaves_nothing(tmp_path: Path, speech: Path) -> None:
    """The older video of that name is not this command's to destroy."""
    out = tmp_path / "a.mp4"
    out.write_bytes(b"older")
    avatar = FakeAvatar(silent=True)
    with serving(avatar) as url:
        process = started(*stream(url, speech, out))
        wait_for(lambda: bool(avatar.requests) or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        code, said = ended(process)
    assert (code, said.strip().splitlines()[-1]) == (130, "stopped")
    assert out.read_bytes() == b"older"
    assert not list(tmp_path.glob(".live-avatar*"))


def test_a_server_error_says_what_was_kept(tmp_path: Path, speech: Path) -> None:
    """Nobody looks for a video after an error."""
    out = tmp_path / "a.mp4"
    with serving(FakeAvatar(error_at_block=2)) as url:
        code, said = ended(started(*stream(url, speech, out)))
    assert code == 1
    line = f"error: stage 2 is on fire; kept the first 1.0 s in {out}"
    assert said.strip().splitlines()[-1] == line


def test_damage_is_one_warning_line_and_the_video_goes_on(tmp_path: Path, fake_url: str) -> None:
    """Both readers of the file would warn; the user needs one line, whole, above the bar."""
    speech = write_coded(tmp_path / "a.flac", tones(1, 8.0, 16_000), 16_000, "mono")
    speech.write_bytes(speech.read_bytes()[: speech.stat().st_size // 2])
    out = tmp_path / "a.mp4"
    code, said = ended(started(*stream(fake_url, speech, out), "--no-sign"))
    assert code == 0
    warnings = [line for line in said.splitlines() if "warning: " in line]
    assert len(warnings) == 1
    assert f"audio {speech} is damaged: " in warnings[0]
    assert "are missing" in warnings[0]
    with av.open(str(out)) as container:
        assert container.streams.video[0].frames > 75


@pytest.mark.parametrize("limit_kb", [30, 60])
def test_a_disk_that_fills_up_ends_the_session_in_order(
    tmp_path: Path, speech: Path, limit_kb: int
) -> None:
    """One line, no half video, and the place on the server is free again."""
    avatar = FakeAvatar()
    with serving(avatar) as url:
        command = stream(url, speech, tmp_path / "a.mp4", "--scale", "64")
        code, said = ended(started(*command, shell=f'ulimit -f {limit_kb}; "$@"'))
        assert avatar.cancelled.wait(5)
    assert code == 1
    words = f"error: video {tmp_path / 'a.mp4'} can't be written: File too large"
    assert said.strip().splitlines()[-1] == words
    assert os.listdir(tmp_path) == ["speech.wav"]


def test_few_file_handles_are_enough(tmp_path: Path, speech: Path, fake_url: str) -> None:
    """`ulimit -n 64` is the default of some containers."""
    limited = 'ulimit -n 64; "$@"'
    assert ended(started("health", "--url", fake_url, shell=limited))[0] == 0
    code, said = ended(started(*stream(fake_url, speech, tmp_path / "a.mp4"), shell=limited))
    assert code == 0, said


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ('"$@" >/dev/full', "error: stdout can't be written: No space left on device\n"),
        ('set -o pipefail; "$@" | :', "error: stdout can't be written: Broken pipe\n"),
        ('"$@" >&-', ""),
        ('"$@" 2>&-', ""),
    ],
)
def test_closed_and_full_outputs_are_at_most_one_line(
    shell: str, words: str, fake_url: str
) -> None:
    """`live-avatar health | head -1` gave a traceback from Python's own farewell."""
    code, said = ended(started("health", "--url", fake_url, "--json", shell=shell))
    assert said == words
    assert code == (1 if words else 0)


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "stopped"),
        (MemoryError(), 1, "error: out of memory"),
        (PermissionError(13, "Permission denied", "x"), 1, "error: x: Permission denied"),
        (ZeroDivisionError("a\nb"), 1, r"error: ZeroDivisionError: a\nb"),
        (RecursionError("too deep"), 1, "error: RecursionError: too deep"),
    ],
)
def test_what_nobody_foresaw_is_one_line(
    raised: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """A user can do nothing with a traceback, and a script nothing without an exit code."""

    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr("live_avatar_client.command.cli.check_health", fail)
    assert here(monkeypatch, capsys, "health") == (code, f"{line}\n")


@pytest.fixture
def signals_as_before() -> Iterator[None]:
    """A command that was stopped ignores signals from then on; this process must not."""
    before = {number: signal.getsignal(number) for number in (1, 2, 15)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals_as_before")
def test_a_signal_while_a_frame_is_written_waits_for_it(tmp_path: Path) -> None:
    """Raised inside the writer, it would leave half a frame, or half a file."""
    writer = VideoWriter(tmp_path / "a.mp4")

    def command() -> None:
        with kept(writer, tmp_path / "a.mp4"), held():
            os.kill(os.getpid(), signal.SIGTERM)
            writer.write(np.zeros((12, 32, 32, 3), np.uint8))

    assert run(command, Console(stderr=True)) == 143
    assert writer.kept
    assert writer.num_frames == 12


@pytest.mark.parametrize("after_s", [0.1, 0.2, 0.4])
def test_ctrl_c_while_the_libraries_load_is_one_line(after_s: float) -> None:
    """Who mistypes a command and stops it at once saw forty lines of imports."""
    code = "from live_avatar_client.command import main; main()"
    command = [sys.executable, "-c", code, "health", "--url", "127.0.0.1:9"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment) as process:
        time.sleep(after_s)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert b"Traceback" not in said or b"<frozen site>" in said
    assert said.count(b"\n") <= 1 or b"<frozen site>" in said


def test_ctrl_c_in_a_finaliser_of_the_imports_is_not_lost() -> None:
    """An exception raised there is printed and forgotten: the command went on to its end."""
    code = """
import os, signal, sys
class Interrupted:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(9))
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.endswith("command.cli"):
            Interrupted()
sys.meta_path.insert(0, Finder())
from live_avatar_client.command import main
main()
"""
    command = [sys.executable, "-c", code, "health", "--url", "127.0.0.1:9"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, capture_output=True, env=environment, timeout=20, check=False)
    assert (ended.returncode, ended.stderr) == (130, b"stopped\n")
