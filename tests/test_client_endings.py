"""Every end of a command is one line and an exit code, and the video so far is kept."""

from __future__ import annotations

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
from live_avatar_client.cli import main
from live_avatar_client.ending import held, kept, run
from tests.fake_avatar_server import FakeAvatar, serving
from tests.sounds import tones, write_coded, write_wav

ROOT = Path(__file__).parents[1]
PORTRAIT = ROOT / "examples" / "portrait.png"
Argument = str | bytes | Path


def started(*arguments: Argument, shell: str = "") -> subprocess.Popen:
    """`live-avatar` as its own process; `shell` is what bash does first, `"$@"` the command."""
    command: list[Argument] = [sys.executable, "-m", "live_avatar_client.cli", *arguments]
    if shell:
        command = ["bash", "-c", shell, "bash", *command]
    path = os.pathsep.join([str(ROOT), str(ROOT / "client")])
    return subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "80"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ended(process: subprocess.Popen) -> tuple[int, str]:
    """Exit code and stderr, without a traceback."""
    _, said = process.communicate(timeout=60)
    text = said.decode(errors="backslashreplace")
    assert "Traceback" not in text
    assert "Exception" not in text
    return process.returncode, text


def here(monkeypatch: pytest.MonkeyPatch, capsys, *arguments: Argument) -> tuple[int, str]:
    """Exit code and stderr of `live-avatar` in this process, which is faster."""
    monkeypatch.setattr(sys, "argv", ["live-avatar", *map(os.fsdecode, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return int(end.value.code or 0), said


@pytest.fixture(scope="module")
def fake_url() -> Iterator[str]:
    with serving(FakeAvatar()) as url:
        yield url


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "speech.wav", tones(1, 10.0, 16_000), 16_000)


def stream(url: str, speech: Path, out: Path, *more: Argument) -> tuple[Argument, ...]:
    given = ("--image", PORTRAIT, "--audio", speech, "--out", out, "--url", url)
    return ("stream", *given, *more)


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
    code, said = ended(started(*stream(fake_url, speech, out)))
    assert code == 0
    warnings = [line for line in said.splitlines() if "warning: " in line]
    assert len(warnings) == 1
    assert f"audio {speech} is damaged: " in warnings[0]
    assert "are missing" in warnings[0]
    with av.open(str(out)) as container:
        assert container.streams.video[0].frames > 75


def test_writing_over_picture_or_sound_is_refused_before_connecting(
    tmp_path: Path, speech: Path
) -> None:
    """Nobody listens at the address: the refusal must come first."""
    film, face = tmp_path / "film.mp4", tmp_path / "face.mp4"
    speech.rename(film)
    face.write_bytes(PORTRAIT.read_bytes())
    for what, out in (("audio", film), ("image", face)):
        before = out.read_bytes()
        arguments = ("--image", face, "--audio", film, "--out", out, "--url", "127.0.0.1:9")
        code, said = ended(started("stream", *arguments))
        assert (code, said.count("\n")) == (1, 1)
        assert f"it is the {what} {out} itself" in said
        assert out.read_bytes() == before


WRONG = {
    "url empty": (("--url", ""), "--url is empty, expected host:port"),
    "url word": (("--url", "nonsense"), "--url is nonsense, expected host:port"),
    "url port": (("--url", "host:99999"), "--url is host:99999, expected host:port"),
    "url http": (("--url", "http://x:8001"), "expected host:port"),
    "url bytes": (("--url", b"\xff:1"), r"--url is \udcff:1"),
    "brackets": (("--options", "[" * 100_000), "--options has 100000 characters"),
    "deep": (("--options", '{"a":' + "[" * 20_000), "nested too deeply"),
    "nan": (("--options", '{"a": NaN}'), "NaN is no number of JSON"),
    "digits": (("--options", '{"a": ' + "9" * 5000 + "}"), "--options is not JSON"),
    "seed": (("--seed", "9" * 30), "doesn't fit a 64-bit integer"),
    "prompt": (("--prompt", b"a\xffb"), r"prompt 'a\udcffb' is not text in UTF-8"),
    "scale": (("--scale", "10000"), "a scale of 64 at most"),
    "image": (("--image", "none.png"), "image none.png is not a file"),
    "image folder": (("--image", "/"), "image / is not a file but a folder"),
    "image long": (("--image", "x" * 300), "File name too long"),
    "image lines": (("--image", "a\nb.png"), r"image a\nb.png is not a file"),
    "audio text": (("--audio", __file__), "can't be read: Invalid data"),
    "audio picture": (("--audio", PORTRAIT), "has no sound track"),
    "audio folder": (("--audio", "/"), "is not a file but a folder"),
    "out folder": (("--out", "none/a.mp4"), "none is not a folder"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_argument_of_stream_is_one_line(
    kind: str, tmp_path: Path, speech: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """A traceback hides the one sentence that would have helped. Nobody listens at the address."""
    (option, value), words = WRONG[kind]
    given: dict[str, Argument] = {
        "--image": PORTRAIT,
        "--audio": speech,
        "--out": "a.mp4",
        "--url": "127.0.0.1:9",
        option: value,
    }
    arguments = [part for pair in given.items() for part in pair]
    monkeypatch.chdir(tmp_path)
    code, said = here(monkeypatch, capsys, "stream", *arguments)
    assert (code, said.count("\n")) == (1, 1)
    assert words in said
    assert os.listdir(tmp_path) == ["speech.wav"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--seconds", "inf"), "--seconds is inf, expected a number above 0 and up to 749999"),
        (("--seconds", "nan"), "--seconds is nan"),
        (("--seconds", "1e400"), "--seconds is inf"),
        (("--seconds", "1e9"), "--seconds is 1e+09"),
        (("--seconds", "-1"), "--seconds is -1"),
        (("--seconds", "9", "--then", "inf:x"), "--then is 'inf:x', expected SECONDS:PROMPT"),
        (("--seconds", "9", "--then", "nan:x"), "--then is 'nan:x'"),
        (("--seconds", "9", "--then", "1"), "--then is '1'"),
        (("--seconds", "9", "--url", "nonsense"), "--url is nonsense"),
        (("--seconds", "9", "--out", "none/a.mp4"), "none is not a folder"),
    ],
)
def test_a_wrong_argument_of_generate_is_one_line(
    arguments: tuple[str, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
) -> None:
    """Nobody listens at the address: it must be told before."""
    monkeypatch.chdir(tmp_path)
    given = ("--prompt", "x", "--out", "a.mp4", "--url", "127.0.0.1:9")
    code, said = here(monkeypatch, capsys, "generate", *given, *arguments)
    assert (code, said.count("\n")) == (1, 1)
    assert words in said
    assert os.listdir(tmp_path) == []


def test_a_place_that_cannot_be_written_is_told_before_connecting(
    tmp_path: Path, speech: Path
) -> None:
    """Else a place on the server is taken for a video that nobody gets."""
    for command in (
        stream("127.0.0.1:9", speech, Path("/proc/a.mp4")),
        ("generate", "--prompt", "x", "--seconds", "1", "--out", "/proc/a.mp4"),
    ):
        code, said = ended(started(*command))
        words = "error: video /proc/a.mp4 can't be written: No such file or directory\n"
        assert (code, said) == (1, words)


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


def test_any_name_is_a_file_in_the_current_folder(
    tmp_path: Path, fake_url: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """FFmpeg took what stands before a colon for a protocol."""
    monkeypatch.chdir(tmp_path)
    for name in (b"data:x", b"a:b", b"-dash", "%d ü".encode(), b"line\nbreak", b"\xff"):
        speech = write_wav(tmp_path / "plain.wav", tones(1, 0.5, 16_000), 16_000)
        os.rename(speech, name + b".wav")
        given = (b"--audio=" + name + b".wav", b"--out=" + name + b".mp4")
        code, said = here(
            monkeypatch, capsys, "stream", "--image", PORTRAIT, "--url", fake_url, *given
        )
        assert code == 0, said
        with av.open("file:" + os.fsdecode(name + b".mp4")) as film:
            assert film.streams.video[0].frames == 13


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

    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr("live_avatar_client.cli.check_health", fail)
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
