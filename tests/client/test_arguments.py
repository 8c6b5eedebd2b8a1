"""What a command was given is checked before the server is asked; a mistake is one line."""

import os
from pathlib import Path

import av
import pytest

from tests.support.command_line import PORTRAIT, Argument, ended, here, started, stream
from tests.support.fake_avatar_server import FakeAvatar, serving
from tests.support.sounds import tones, write_wav


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "speech.wav", tones(1, 10.0, 16_000), 16_000)


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
    "model bytes": (("--model", b"a\xff"), r"--model is 'a\udcff', expected text in UTF-8"),
    "option bytes": (("--options", b'{"\xff": 1}'), "--options is '{"),
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
        (("--seconds", "9", "--then", b"1:\xff"), r"--then is '1:\udcff', expected text in UTF-8"),
        (("--seconds", "9", "--rules", b"\xff"), r"--rules is '\udcff', expected text in UTF-8"),
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


def test_any_name_is_a_file_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """FFmpeg took what stands before a colon for a protocol."""
    monkeypatch.chdir(tmp_path)
    with serving(FakeAvatar()) as url:
        for name in (b"data:x", b"a:b", b"-dash", "%d ü".encode(), b"line\nbreak", b"\xff"):
            speech = write_wav(tmp_path / "plain.wav", tones(1, 0.5, 16_000), 16_000)
            os.rename(speech, name + b".wav")
            given = (b"--audio=" + name + b".wav", b"--out=" + name + b".mp4")
            code, said = here(
                monkeypatch, capsys, "stream", "--image", PORTRAIT, "--url", url, *given
            )
            assert code == 0, said
            with av.open("file:" + os.fsdecode(name + b".mp4")) as film:
                assert film.streams.video[0].frames == 13
