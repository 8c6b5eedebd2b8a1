"""The scripts of `examples/` run as they are, on the real server."""

import os
import subprocess
import sys
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from deploy.server.local import LocalServer
from live_avatar_client import Session, read_audio
from tests.server.test_rolling import server as rolling_server
from tests.support.sounds import tones, write_wav

__all__ = ["rolling_server"]  # a fixture, of the rolling-demo preset

pytestmark = pytest.mark.triton
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SCRIPTS = (
    "plain_client.py",
    "stream_file.py",
    "stream_microphone.py",
    "talk_live.py",
    "text_to_video.py",
    "two_speakers.py",
)
PORTRAIT, SPEECH = EXAMPLES / "portrait.png", EXAMPLES / "speech.flac"


def run(script: str, *arguments: str | Path) -> str:
    """What the script prints, run as a user runs it: by its path, with the client on the path."""
    command = [sys.executable, EXAMPLES / script, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "client")}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def num_frames(video: Path) -> int:
    with av.open(str(video)) as container:
        return sum(1 for _ in container.decode(video=0))


def speech_frames() -> int:
    with av.open(str(SPEECH)) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    return -(-samples // 640)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_example_explains_itself(script: str) -> None:
    """The first thing that a user asks; and it fits on a screen."""
    assert "--out" in run(script, "--help")
    assert len((EXAMPLES / script).read_text().splitlines()) <= 50


def test_a_file_becomes_a_video_with_its_sound(server: LocalServer, tmp_path: Path) -> None:
    """The example that everybody copies first."""
    out = tmp_path / "talk.mp4"
    said = run("stream_file.py", PORTRAIT, SPEECH, "--out", out, "--url", server.grpc_url)
    assert said.startswith("block 0: 0.48 s of video\n")
    assert num_frames(out) == speech_frames()
    with av.open(str(out)) as container:
        assert container.streams.audio


def test_two_speak_in_turns_in_one_picture(server: LocalServer, tmp_path: Path) -> None:
    """Each in his own time, and both are heard."""
    out, voices = tmp_path / "two.mp4", [tmp_path / "first.wav", tmp_path / "second.wav"]
    for path, seconds, level in zip(voices, (1.0, 0.6), (0.1, 0.8), strict=True):
        write_wav(path, tones(1, seconds, 16_000, level), 16_000)
    said = run("two_speakers.py", *voices, "--out", out, "--url", server.grpc_url)
    assert said.startswith("block 0: 0.48 s of video\n")
    assert num_frames(out) == 40
    with av.open(str(out)) as container:
        sound = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    second = int(len(sound) / 1.6)
    assert np.abs(sound[second:]).mean() > 3 * np.abs(sound[:second]).mean() > 0


def test_a_client_that_knows_only_the_page_about_the_wire_gets_every_frame(
    server: LocalServer, tmp_path: Path
) -> None:
    """It shares no line with our client: what that one does silently, the page would lack."""
    text = (EXAMPLES / "plain_client.py").read_text()
    assert len(text.splitlines()) <= 40
    assert "live_avatar_client" not in text
    speech = np.concatenate(list(read_audio(SPEECH)))[16_000 : 16_000 + 20_000]
    sound = np.rint(speech * 32767).astype("<i2")
    with wave.open(str(tmp_path / "talk.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(sound.tobytes())
    frames = tmp_path / "frames"
    run(
        "plain_client.py",
        PORTRAIT,
        tmp_path / "talk.wav",
        "--out",
        frames,
        "--url",
        server.grpc_url,
    )
    pictures = [np.asarray(Image.open(file)) for file in sorted(frames.iterdir())]
    with Session(url=server.grpc_url, image=PORTRAIT, idle=False) as session:
        ours = [block.frames for block in session.stream([sound])]
    np.testing.assert_array_equal(np.stack(pictures), np.concatenate(ours))


def test_a_microphone_is_answered_while_it_speaks(server: LocalServer, tmp_path: Path) -> None:
    """Every block says how early or late it came; a voice that ends may be padded by silence."""
    out = tmp_path / "live.mp4"
    heard = ("--image", PORTRAIT, "--audio", SPEECH)
    said = run("stream_microphone.py", *heard, "--out", out, "--url", server.grpc_url)
    lines = said.splitlines()
    assert all(f"block {i}: " in line for i, line in enumerate(lines))
    assert all(" early " in line or " late " in line for line in lines)
    assert speech_frames() <= num_frames(out) <= speech_frames() + 50


def test_an_agent_talks_and_is_interrupted(server: LocalServer, tmp_path: Path) -> None:
    """Every frame of the talk is in the video, and its sound."""
    out = tmp_path / "talk.mp4"
    heard = ("--image", PORTRAIT, "--audio", SPEECH, "--seconds", "6")
    said = run("talk_live.py", *heard, "--out", out, "--url", server.grpc_url)
    assert said.startswith("interrupted: generation 1\n")
    assert num_frames(out) == 6 * 25 + 1
    with av.open(str(out)) as container:
        assert container.streams.audio


def test_a_prompt_becomes_a_video_that_changes(rolling_server: LocalServer, tmp_path: Path) -> None:
    """A stream's first block has three frames less than the others."""
    out = tmp_path / "scene.mp4"
    prompts = ("--prompt", "dawn at sea", "--then", "noon at sea", "--blocks", "4")
    said = run("text_to_video.py", *prompts, "--out", out, "--url", rolling_server.grpc_url)
    assert said.endswith("scene.mp4: 2.81 s\n")
    assert num_frames(out) == 45
