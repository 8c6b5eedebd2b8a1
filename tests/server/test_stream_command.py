"""`live-avatar stream` with several actors and a pose video, before a server that takes both."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from deploy.server.local import LocalServer
from export.repository.assemble import assemble
from tests.client.pose_videos import pose_video
from tests.support.command_line import Argument, ended, here, started
from tests.support.raw_stream import wait_until_free
from tests.support.sounds import tones, write_wav

pytestmark = pytest.mark.triton
ROOT = Path(__file__).parents[2]
TWO = ROOT / "examples" / "two"
LEFT, RIGHT = TWO / "left.png", TWO / "right.png"
Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """The demo preset with the encoder of pose videos."""
    folder = tmp_path_factory.mktemp("pose_server")
    assemble(ROOT / "artifacts" / "demo", folder / "repository", pose=True)
    with LocalServer(folder / "repository", log_dir=folder) as running:
        yield running


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sounds, pose videos and masks, good and bad."""
    folder = tmp_path_factory.mktemp("files")
    write_wav(folder / "long.wav", tones(1, 1.0, 16_000), 16_000)
    write_wav(folder / "short.wav", tones(1, 0.5, 16_000), 16_000)
    pose_video(folder / "pose.mp4", frames=25)
    pose_video(folder / "brief.mp4", frames=5)
    pose_video(folder / "hour.mp4", frames=40)
    pose_video(folder / "wide.mp4", size=(1280, 720), frames=25)
    pose_video(folder / "quick.mp4", rate=30)
    (folder / "text.mp4").write_text("no video")
    whole = Image.open(LEFT)
    whole.resize((256, 256)).save(folder / "small.png")
    whole.crop((0, 0, 512, 256)).save(folder / "flat_left.png")
    Image.open(RIGHT).crop((0, 0, 512, 256)).save(folder / "flat_right.png")
    Image.fromarray(np.zeros((512, 512), np.uint8)).save(folder / "black.png")
    above = np.zeros((512, 512), np.uint8)
    above[:8] = 255
    Image.fromarray(above).save(folder / "above.png")
    (folder / "text.png").write_text("no picture")
    return folder


def one(files: Path, pose: str) -> tuple[Argument, ...]:
    """Of one who speaks and follows."""
    return ("--audio", files / "long.wav", "--pose", files / pose)


def two(files: Path, first: str | Path = LEFT, second: str | Path = RIGHT) -> tuple[Argument, ...]:
    """Of two who speak, one longer than the other."""
    voices = zip(("long.wav", "short.wav"), (first, second), strict=True)
    given = [("--actor", f"{files / voice}:{files / mask}") for voice, mask in voices]
    return tuple(argument for pair in given for argument in pair)


def command(server: LocalServer, out: Path) -> tuple[Argument, ...]:
    picture = ("--image", TWO / "picture.png", "--seed", "3")
    return ("stream", *picture, "--url", server.grpc_url, "--out", out, "--no-sign")


@pytest.fixture
def run(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> Iterator[Run]:
    """The command in this process; afterwards both places are free, and the log is calm."""
    yield lambda *more: here(monkeypatch, capsys, *command(server, tmp_path / "a.mp4"), *more)
    wait_until_free(server)
    assert "Traceback" not in server.log.read_text()


def seen(out: Path) -> np.ndarray:
    with av.open(str(out)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def heard(out: Path) -> tuple[np.ndarray, int]:
    """Samples of the first channel, and how many are a second."""
    with av.open(str(out)) as container:
        rate = container.streams.audio[0].rate
        return np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)]), rate


def test_two_who_speak_and_follow_are_in_the_video_to_the_frame(
    server: LocalServer, files: Path, tmp_path: Path
) -> None:
    """Run as users run it: two voices of different length, their masks, a pose video, sound."""
    made = []
    for number, more in enumerate(((), ("--pose", files / "pose.mp4"))):
        out = tmp_path / f"{number}.mp4"
        code, said = ended(started(*command(server, out), *two(files), *more))
        assert (code, said) == (0, "")
        made.append(seen(out))
        sound, rate = heard(out)
        assert abs(len(sound) / rate - 1) < 0.1  # AAC's frames
        assert np.abs(sound[: rate // 3]).mean() > 1.5 * np.abs(sound[-rate // 3 :]).mean()
    without, following = made
    assert without.shape == following.shape
    assert len(following) == 25
    assert np.abs(following.astype(int) - without).max() > 20  # the demo sees a pose, and no more


@pytest.mark.parametrize(
    ("pose", "words"),
    [
        ("brief.mp4", "brief.mp4 ends after 0.20 s, the video goes on to 1.00 s without it"),
        ("hour.mp4", "hour.mp4 is longer than the sound, it was followed for 1.00 s"),
        ("wide.mp4", ""),
    ],
)
def test_a_pose_of_another_length_is_told_and_one_of_another_size_is_fitted(
    run: Run, files: Path, tmp_path: Path, pose: str, words: str
) -> None:
    """Who cut the wrong file would look for the fault in the avatar."""
    code, said = run(*one(files, pose))
    assert code == 0, said
    assert len(seen(tmp_path / "a.mp4")) == 25
    assert words in said
    assert len(said.splitlines()) == bool(words)


POSES = {
    "quick.mp4": "has 30 frames per second, expected 25",
    "text.mp4": "text.mp4 can't be read",
    "long.wav": "long.wav has no video in it",
    "black.png": "black.png is a picture, expected a video",
    "none.mp4": "none.mp4 is not a file: there is none",
}
MASKS = {
    (LEFT, LEFT): "left.png overlap in 80316 pixels",
    (LEFT, "black.png"): "black.png covers nothing",
    (LEFT, "small.png"): "small.png is 256 x 256 pixels, mask ",
    ("flat_left.png", "flat_right.png"): "512 x 256 pixels, the picture 512 x 512",
    (LEFT, "text.png"): "text.png is no picture",
    (LEFT, "long.wav"): "long.wav is no picture that can be read: there is none in it",
    (LEFT, "none.png"): "none.png is not a file: there is none",
}


@pytest.mark.parametrize("pose", POSES)
def test_what_is_no_pose_is_one_line_and_an_exit_code(run: Run, files: Path, pose: str) -> None:
    """A traceback hides the sentence that would have helped."""
    check(run(*one(files, pose)), POSES[pose])


@pytest.mark.parametrize("masks", MASKS)
def test_what_is_no_mask_is_one_line_and_an_exit_code(
    run: Run, files: Path, masks: tuple[str | Path, str | Path]
) -> None:
    """Whether the client finds it out or the server."""
    check(run(*two(files, *masks)), MASKS[masks])


def test_a_third_actor_is_one_line_and_an_exit_code(run: Run, files: Path) -> None:
    """The server's limit, in the words of the server."""
    third = ("--actor", f"{files / 'short.wav'}:{files / 'above.png'}")
    check(run(*two(files), *third), "actor_masks has 3 actors, this server takes up to 2")


def check(ended: tuple[int, str], words: str) -> None:
    code, said = ended
    assert code == 1
    assert words in said
    assert len(said.splitlines()) == 1, said
