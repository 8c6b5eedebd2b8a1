"""Several actors and poses before the real server: what is taken, and what is refused in a line."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.server.local import LocalServer
from live_avatar_client import Session, read_audio
from pipeline.config.avatar import PipelineConfig
from tests.client.pose_videos import pose_video
from tests.support.command_line import here, stream
from tests.support.raw_stream import IMAGE, Stream, wait_until_free
from tests.support.sounds import tones, write_wav

pytestmark = pytest.mark.triton
ROOT = Path(__file__).parents[2]
CONFIG = PipelineConfig.load(ROOT / "artifacts" / "demo" / "pipeline.json")
BLOCK = 7680
LEFT, RIGHT = np.zeros((2, 512, 512), np.uint8)
LEFT[:, :200], RIGHT[:, 312:] = 255, 255
MASKS = np.stack([LEFT, RIGHT])
AUDIO = np.zeros(640, np.float32)
BOTH = np.zeros((2, 640), np.float32)
POSE = np.zeros((1, *CONFIG.latent_shape[1:]), np.float32)
FRAMES = np.zeros((2, 8, 8, 3), np.uint8)
STARTS: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "masks overlap": ({"actor_masks": np.stack([LEFT, LEFT])}, "overlap in 102400 pixels"),
    "a mask is empty": ({"actor_masks": np.stack([LEFT, 0 * LEFT])}, "actor 1 covers nothing"),
    "three actors": ({"actor_masks": np.stack([LEFT, RIGHT, RIGHT])}, "3 actors, .* up to 2"),
    "no actors": ({"actor_masks": MASKS[:0]}, r"actor_masks is \[0, 512, 512\]"),
    "masks of another shape": (
        {"actor_masks": np.ascontiguousarray(MASKS[:, :300])},
        "512 x 300 pixels, the picture 512 x 512",
    ),
}
LATER: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "masks too late": ({"actor_masks": MASKS}, "belongs to the START request"),
    "three rows of sound": ({"actor_audio": np.zeros((3, 640), np.float32)}, "is of actor 2, "),
    "sound of nobody": ({"actor_audio": BOTH, "actors": np.array([0, 2])}, "is of actor 2, this"),
    "sound of one twice": ({"actor_audio": BOTH, "actors": np.array([1, 1])}, r"\[1, 1\] for 2"),
    "names without sound": ({"actors": np.array([1])}, "without actor_audio"),
    "no row at all": ({"actor_audio": BOTH[:0]}, r"actor_audio is \[0, 640\]"),
    "two sounds": ({"actor_audio": BOTH, "audio": AUDIO}, "audio and actor_audio, wanted one"),
    "no number": ({"actor_audio": np.full((2, 9), np.nan, np.float32)}, "sample 0 is nan"),
    "int16 scale": ({"actor_audio": BOTH + 9000}, "actor_audio peaks at 9000"),
    "features of one": (
        {"audio_features": np.zeros((1, CONFIG.audio_layers, CONFIG.audio_dim, 12), np.float32)},
        "audio_features has 1 actors, this session 2",
    ),
    "a pose of another size": ({"pose_latents": POSE[..., :-1]}, r"wanted \[blocks, 16, 3, 12"),
    "a pose that isn't finite": ({"pose_latents": POSE + np.inf}, "pose_latents has values"),
    "two poses": ({"pose": FRAMES, "pose_latents": POSE}, "pose and pose_latents, wanted one"),
    "large frames": ({"pose": np.zeros((1, 5000, 9, 3), np.uint8)}, "9 x 5000 pixels"),
    "frames without an encoder": ({"pose": FRAMES}, "make stop, then make serve POSE=1"),
}


def talk(server: LocalServer, say: Callable[[int], None]) -> list[np.ndarray]:
    """Latents of a session of three blocks, while `say` does something before each."""
    sound = np.random.default_rng(1).standard_normal((3, BLOCK)).astype(np.float32) / 10
    with Session(
        url=server.grpc_url, image=IMAGE.tobytes(), seed=3, want_latent=True, idle=False
    ) as session:
        for number, piece in enumerate(sound):
            say(number)
            session.send(piece)
        session.finish()
        return [block.latent for block in session]


def test_bad_input_is_told_in_a_line_and_no_other_session_notices(server: LocalServer) -> None:
    """A guest's mistake would cost somebody else frames, or the server its process."""

    def mistakes(number: int) -> None:
        stream = Stream(server)
        try:
            for kind, (inputs, words) in list(STARTS.items())[number::3]:
                stream.session += 1
                _, error = stream.ask(start=True, end=True, image=IMAGE, **inputs)
                check(kind, words, error)
            stream.session += 1
            assert stream.ask(start=True, image=IMAGE, actor_masks=MASKS) == (0, "")
            for kind, (inputs, words) in list(LATER.items())[number::3]:
                check(kind, words, stream.ask(**inputs)[1])
            answers, error = stream.ask(actor_audio=np.zeros((2, BLOCK), np.float32), end=True)
            assert (answers, error) == (1, "")  # nothing of what was refused was taken
        finally:
            stream.close()

    def check(kind: str, words: str, error: str) -> None:
        assert re.search(words, error), (kind, error)
        assert "\n" not in error.strip(), kind

    alone = talk(server, lambda _: None)
    disturbed = talk(server, mistakes)
    for one, other in zip(alone, disturbed, strict=True):
        np.testing.assert_array_equal(one, other)
    wait_until_free(server)
    assert "Traceback" not in server.log.read_text()


def test_a_session_takes_one_place_however_many_speak(server: LocalServer) -> None:
    """What they cost more is a second sound's encoder; a place for each would serve one pair."""
    guests = [Stream(server) for _ in range(3)]
    try:
        given = {"start": True, "image": IMAGE, "actor_masks": MASKS}
        answers = [guest.ask(**given)[1] for guest in guests]
        assert answers[:2] == ["", ""]
        assert "all 2 sessions of this server are in use" in answers[2]
        sound = np.zeros((2, BLOCK), np.float32)
        assert [guest.ask(actor_audio=sound, end=True) for guest in guests[:2]] == [(1, "")] * 2
    finally:
        for guest in guests:
            guest.close()
    wait_until_free(server)


def test_a_pose_before_a_server_without_an_encoder_is_one_line(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The user would wait, or get a video that follows nothing."""
    video = pose_video(tmp_path / "pose.mp4")
    sound = write_wav(tmp_path / "a.wav", tones(1, 0.5, 16_000), 16_000)
    given = stream(server.grpc_url, sound, tmp_path / "a.mp4", "--pose", video)
    code, said = here(monkeypatch, capsys, *given)
    assert code == 1
    assert "make serve POSE=1" in said
    assert len(said.splitlines()) == 1


def test_swapped_voices_move_other_halves(server: LocalServer) -> None:
    """The demo has not learned several actors: what it hears moves a latent's half, no more."""
    voice = np.concatenate(list(read_audio(ROOT / "examples" / "speech.flac")))
    voice, silent = voice[: 2 * BLOCK], np.zeros(2 * BLOCK, np.float32)

    def latents(*rows: np.ndarray) -> np.ndarray:
        with Session(
            url=server.grpc_url, image=IMAGE.tobytes(), actors=list(MASKS), seed=3, want_latent=True
        ) as session:
            blocks = list(session.stream([np.stack(rows)]))
        assert len(blocks) == 2
        return np.concatenate([block.latent for block in blocks])

    quiet = latents(silent, silent)
    left, right = (np.abs(latents(*rows) - quiet) for rows in ((voice, silent), (silent, voice)))
    half = quiet.shape[-1] // 2
    assert left.max() > 0
    assert right.max() > 0
    assert left[..., :half].mean() > right[..., :half].mean()
    assert right[..., half:].mean() > left[..., half:].mean()
