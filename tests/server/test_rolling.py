"""`rolling_forcing` on the real server: what it streams, refuses, and survives."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from deploy.server.local import LocalServer
from export.repository.assemble import assemble
from live_avatar_client import AvatarError, VideoStream
from live_avatar_client.protocol import TensorSpec
from live_avatar_client.rolling import ROLLING_FPS, ROLLING_INPUTS, blocks_before
from pipeline.config.rolling import RollingConfig
from tests.client.test_cli import run
from tests.client.test_protocol import OUTPUTS, specs

pytestmark = pytest.mark.triton
ROOT = Path(__file__).parents[2]
DEMO = ROOT / "artifacts" / "rolling-demo"
ROLLING_OUTPUTS = {name: spec for name, spec in OUTPUTS.items() if name != "generation"}
ROLLING_OUTPUTS["latent"] = TensorSpec(datatype="FP32", dims=(1, -1, -1, -1, -1))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """The rolling-demo preset behind tritonserver."""
    folder = tmp_path_factory.mktemp("rolling_server")
    assemble(DEMO, folder / "repository")
    with LocalServer(folder / "repository", log_dir=folder) as running:
        yield running


def opened(server: LocalServer, num_blocks: int, seed: int = 3) -> VideoStream:
    options = {"blocks": num_blocks}
    return VideoStream(prompt="fog", seed=seed, url=server.grpc_url, options=options)


def clip(server: LocalServer, num_blocks: int, seed: int = 3) -> np.ndarray:
    with opened(server, num_blocks, seed) as stream:
        return np.concatenate([block.frames for block in stream.finish()])


@pytest.fixture(scope="module")
def alone(server: LocalServer) -> np.ndarray:
    return clip(server, 4)


def test_pulled_blocks_equal_blocks_at_once(server: LocalServer, alone: np.ndarray) -> None:
    """How a client paces itself must not be seen in the picture."""
    with opened(server, 4) as stream:
        blocks = [*stream.blocks(1), *stream.blocks(2), *stream.finish(1)]
    np.testing.assert_array_equal(np.concatenate([b.frames for b in blocks]), alone)
    assert set(blocks[-1].timings_ms) == {"total", "queued", "vae_decoder", "dit_window"}


def test_interleaved_sessions_equal_separate_ones(server: LocalServer, alone: np.ndarray) -> None:
    """A tick would land in the other session's cache."""
    results: dict[int, np.ndarray] = {}

    def make(seed: int) -> None:
        results[seed] = clip(server, 4, seed)

    threads = [threading.Thread(target=make, args=(seed,)) for seed in (3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(results[3], alone)
    assert np.any(results[4] != alone)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"options": {"seconds": -1}}, "option seconds is -1"),
    ({"options": {"blocks": 2, "seconds": 1}}, "blocks and seconds, wanted one of them"),
    ({"options": {"rules": "magic"}}, "option rules is 'magic', wanted one of deployed"),
    ({"options": {"speed": 2}}, "unknown option 'speed'"),
    ({"text": np.zeros((3, 5), np.float32)}, "text is [3, 5], wanted"),
    ({"text": np.full((3, 64), np.nan, np.float32)}, "not finite"),
]


@pytest.mark.parametrize(("start", "words"), BAD)
def test_a_bad_start_is_refused_in_words(
    server: LocalServer, start: dict[str, Any], words: str
) -> None:
    """The place of the refused session would be lost, or the server."""
    with VideoStream(url=server.grpc_url, **start) as stream:
        with pytest.raises(AvatarError) as refused:
            list(stream.finish(1))
        assert words in str(refused.value)
        assert "Traceback" not in str(refused.value)


def test_bad_requests_in_mid_session_leave_it_usable(server: LocalServer) -> None:
    """A slip of the client would end an endless stream."""
    with VideoStream(prompt="fog", url=server.grpc_url, options={"blocks": 2}) as stream:
        assert len(list(stream.blocks(1))) == 1
        with pytest.raises(AvatarError, match="num_blocks is 9, but 1 of the stream's 2"):
            list(stream.blocks(9))
        with pytest.raises(AvatarError, match="wanted one integer"):
            list(stream.blocks(-1))
        assert len(list(stream.finish())) == 1


def test_one_session_too_many_is_told_the_limit_and_a_vanished_client_frees_its_place(
    server: LocalServer,
) -> None:
    """It would wait in silence; and a client that dies must not lock the others out."""
    streams = [VideoStream(prompt="fog", url=server.grpc_url) for _ in range(2)]
    for stream in streams:
        stream.open()
        next(stream.blocks(1_000))
    with (
        VideoStream(prompt="fog", url=server.grpc_url) as third,
        pytest.raises(AvatarError, match="all 2 sessions"),
    ):
        list(third.finish(1))
    for stream in streams:
        stream.close()
    began = time.monotonic()
    while True:
        try:
            assert len(clip(server, 1)) == 9
            break
        except AvatarError:
            assert time.monotonic() - began < 15
            time.sleep(0.2)


def test_a_client_that_vanishes_while_nothing_is_owed_frees_its_place(
    server: LocalServer,
) -> None:
    """Its place stayed taken for the idle limit of a minute."""
    for _ in range(3):
        streams = [opened(server, 40) for _ in range(2)]
        for stream in streams:
            stream.open()
            assert len(list(stream.blocks(1))) == 1
        for stream in streams:
            assert stream._stream is not None
            stream._stream.cancel()  # as the process's end would
            stream.close()
        began_s = time.monotonic()
        while not two_are_served(server):
            assert time.monotonic() - began_s < 3.0


def two_are_served(server: LocalServer) -> bool:
    try:
        with opened(server, 4) as one, opened(server, 4) as other:
            return [len(list(one.blocks(1))), len(list(other.blocks(1)))] == [1, 1]
    except AvatarError:
        return False


def test_generate_writes_a_video_with_a_change_of_prompt(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """What a newcomer types."""
    out = tmp_path / "fog.mp4"
    arguments = ["--prompt", "fog", "--seconds", "2", "--then", "1:rain", "--json", "--out", out]
    assert run(monkeypatch, "generate", *arguments, "--url", server.grpc_url) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["frames"] == 32
    assert figures["seconds"] == 2.0
    assert out.stat().st_size > 0


@pytest.mark.parametrize("name", ["config.pbtxt", "configs/cpu.pbtxt"])
def test_client_and_model_agree(name: str) -> None:
    """A tensor renamed on one side only fails at run time, in the user's hands."""
    text = (ROOT / "model_repository" / "rolling_forcing" / name).read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert specs(config.input) == dict(ROLLING_INPUTS)
    assert specs(config.output) == dict(ROLLING_OUTPUTS)
    assert all(tensor.optional for tensor in config.input)


def test_client_and_server_agree_on_blocks_and_seconds() -> None:
    """A change of prompt would come a block early or late."""
    config = RollingConfig.load(DEMO / "rolling.json")
    assert config.fps == ROLLING_FPS
    for frames in range(1, 100):
        before = blocks_before(frames / ROLLING_FPS)
        assert config.video_frames(before - 1) < frames <= config.video_frames(before)
        assert before == config.blocks_of(frames)
