"""The command line: results on stdout, progress on stderr, errors in one line."""

import json
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from live_avatar_client.command.cli import main
from live_avatar_client.command.figures import Figures
from live_avatar_client.protocol import Block
from tests.client.test_audio import tone, write_sound
from tests.support.fake_avatar_server import FakeAvatar, serving


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """The exit code of `live-avatar` with these arguments."""
    monkeypatch.setattr(sys, "argv", ["live-avatar", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """1.5 s of tone: 38 frames, the last one from half a frame of samples."""
    return write_sound(tmp_path / "speech.wav", [tone(1.5, 16_000)], 16_000)


@pytest.fixture
def face(tmp_path: Path) -> Path:
    (tmp_path / "face.png").write_bytes(b"png")
    return tmp_path / "face.png"


def test_stream_writes_the_video_and_one_json_line_last(
    tmp_path: Path, face: Path, speech: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """Scripts read the last line of stdout; a progress bar there would break them."""
    out = tmp_path / "talk.mp4"
    with serving(FakeAvatar()) as url:
        arguments = ("--image", face, "--audio", speech, "--out", out, "--url", url)
        code = run(monkeypatch, "stream", *arguments, "--options", '{"fast": true}', "--json")
    assert code == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["frames"] == 38
    assert figures["seconds"] == 1.52
    assert figures["blocks"] == 4
    assert figures["ttff_ms"] > 0
    assert {"fps", "realtime_factor", "late_frames"} <= set(figures)
    with av.open(str(out)) as container:
        assert container.streams.video[0].frames == 38
        assert container.streams.audio[0].duration > 0


def test_realtime_sends_at_the_speed_of_speech(
    tmp_path: Path, face: Path, speech: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """The first block of a live talk can't come before its 0.48 s were spoken."""
    with serving(FakeAvatar()) as url:
        arguments = ("--image", face, "--audio", speech, "--out", tmp_path / "a.mp4")
        assert run(monkeypatch, "stream", *arguments, "--url", url, "--realtime", "--json") == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["ttff_ms"] >= 480
    assert figures["wall_s"] >= 1.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--image", "none.png"), "image none.png is not a file"),
        (("--audio", "none.wav"), "audio none.wav is not a file"),
        (("--out", "none/a.mp4"), "none is not a folder"),
        (("--options", "[1]"), "expected a JSON object"),
        (("--options", "{"), "--options is not JSON"),
        (("--url", "127.0.0.1:9"), "make serve"),
    ],
)
def test_a_users_mistake_is_one_line_and_a_nonzero_exit(
    change: tuple[str, str],
    words: str,
    tmp_path: Path,
    face: Path,
    speech: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
) -> None:
    """A traceback hides the one sentence that would have helped."""
    given = {"--image": face, "--audio": speech, "--out": tmp_path / "a.mp4", change[0]: change[1]}
    code = run(monkeypatch, "stream", *(part for pair in given.items() for part in pair))
    error = capsys.readouterr().err
    assert code == 1
    assert words in error
    assert "Traceback" not in error
    assert not (tmp_path / "a.mp4").exists()


def test_a_server_error_keeps_the_video_so_far(
    tmp_path: Path, face: Path, speech: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """What was made before the failure is evidence, and the exit code still tells scripts."""
    with serving(FakeAvatar(error_at_block=2)) as url:
        arguments = ("--image", face, "--audio", speech, "--out", tmp_path / "a.mp4")
        assert run(monkeypatch, "stream", *arguments, "--url", url) == 1
    assert "error: stage 2 is on fire" in capsys.readouterr().err
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].frames == 24


def test_health_tells_a_ready_model_from_a_missing_one(
    monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """The exit code is what a start-up script waits for."""
    with serving(FakeAvatar()) as url:
        assert run(monkeypatch, "health", "--url", url, "--json") == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["model_ready"] is True
        assert run(monkeypatch, "health", "--url", url, "--model", "nix") == 1
    assert "not ready" in capsys.readouterr().err


def block_at(index: int, received_s: float) -> Block:
    return Block(
        frames=np.zeros((12, 2, 2, 3), np.uint8),
        frame_index=12 * index,
        block=index,
        timings_ms={},
        latent=None,
        received_s=received_s,
    )


def test_late_frames_are_those_a_player_had_to_wait_for() -> None:
    """Frame k is due k/25 s after the first arrival; a block 0.1 s late misses 3 of its frames."""
    figures = Figures(started_s=9.0)
    for index, received_s in enumerate([10.0, 10.48, 11.06, 11.44]):
        figures.add(block_at(index, received_s))
    assert figures.late_frames == 3
    assert figures.max_lateness_ms == pytest.approx(100)
    assert figures.ttff_ms == pytest.approx(1000)
    assert figures.fps == pytest.approx(36 / 1.44)
    assert figures.realtime_factor == pytest.approx(1.0)
