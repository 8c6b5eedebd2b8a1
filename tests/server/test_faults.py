"""What the real server says to bad requests and vanished clients, and that others don't notice."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc

from deploy.server.health import CHANNEL_ARGS
from deploy.server.local import LocalServer
from tests.support.raw_stream import IMAGE, Stream, wait_until_free

pytestmark = pytest.mark.triton
ROOT = Path(__file__).parents[2]
SECOND = np.zeros(17_000, np.float32)
"""A little more than a second: two blocks, the 80 ms that the demo looks ahead, and a bit."""


@pytest.fixture
def stream(server: LocalServer) -> Iterator[Stream]:
    stream = Stream(server)
    yield stream
    stream.close()
    wait_until_free(server)


BAD_STARTS = [
    ({"image": np.arange(100, dtype=np.uint8)}, "image"),
    ({}, "no picture"),
    ({"image": IMAGE, "audio": np.full(10, np.nan, np.float32)}, "sample 0 is nan"),
    ({"image": IMAGE, "audio": np.zeros(0, np.float32)}, "0 samples"),
    ({"image": IMAGE, "audio": np.zeros(4, np.int16)}, "FP32"),
    ({"image": IMAGE, "options": np.frombuffer(b'{"speed": 2}', np.uint8)}, "option 'speed'"),
    ({"image_rgb": np.zeros((0, 4, 3), np.uint8)}, "image"),
]


@pytest.mark.parametrize(("inputs", "words"), BAD_STARTS)
def test_a_bad_start_is_refused_in_words_and_leaves_nothing(
    stream: Stream, inputs: dict[str, np.ndarray], words: str
) -> None:
    """The slot of the refused session would be lost, or the server."""
    blocks, error = stream.ask(start=True, **inputs)
    assert blocks == 0
    assert words in error
    assert "Traceback" not in error
    assert "/" not in error.replace("PNG/JPEG", "").split("model ")[0]


def test_eight_hours_of_audio_in_a_start_are_refused_with_the_limit(stream: Stream) -> None:
    """460,800,000 samples would fill the memory of everybody."""
    hours = np.zeros(8 * 3600 * 16_000, np.int16)
    _, error = stream.ask(start=True, image=IMAGE, audio_int16=hours)
    assert "600 s" in error
    assert stream.ask(start=True, image=IMAGE, audio=SECOND)[1] == ""


def test_bad_audio_in_mid_session_leaves_the_session_usable(stream: Stream) -> None:
    """One broken chunk of a microphone would end the stream."""
    assert stream.ask(start=True, image=IMAGE)[1] == ""
    assert "finite" in stream.ask(audio=np.full(100, np.nan, np.float32))[1]
    assert stream.ask(audio=SECOND) == (2, "")
    assert stream.ask(end=True) == (1, "")


def test_bad_audio_in_the_end_request_frees_the_session(stream: Stream) -> None:
    """The sequence is over for Triton, so nobody could end the session any more."""
    assert stream.ask(start=True, image=IMAGE, audio=SECOND) == (2, "")
    assert "finite" in stream.ask(end=True, audio=np.full(100, np.nan, np.float32))[1]


def test_a_sequence_id_of_text_is_refused_in_words(server: LocalServer, stream: Stream) -> None:
    """Triton lets it pass; the orchestrator counts on integers."""
    strange = Stream(server, session="abc")  # type: ignore[arg-type]
    assert "the text 'abc'" in strange.ask(start=True, image=IMAGE)[1]
    strange.close()
    assert stream.ask(start=True, image=IMAGE, audio=SECOND) == (2, "")


def test_many_refused_starts_do_not_lock_others_out(server: LocalServer, stream: Stream) -> None:
    """Triton keeps a place for each of them; without one a START waits in silence."""
    refused = Stream(server, session=0)
    for number in range(1100):
        refused.session = 500_000 + number
        refused.send(start=True)
    assert all("no picture" in refused.answer()[1] for _ in range(1100))
    refused.close()
    assert stream.ask(start=True, image=IMAGE)[1] == ""


def test_audio_without_start_is_refused(stream: Stream) -> None:
    """There is no avatar to move."""
    assert "START" in stream.ask(audio=SECOND)[1]


def test_a_second_end_is_refused(stream: Stream) -> None:
    """The session is gone; the client should hear so."""
    assert stream.ask(start=True, image=IMAGE) == (0, "")
    assert stream.ask(end=True) == (0, "")
    assert "START" in stream.ask(end=True)[1]


def test_one_session_too_many_is_told_the_limit(server: LocalServer, stream: Stream) -> None:
    """It would wait in silence behind the others."""
    others = [Stream(server, session=s) for s in (1001, 1002)]
    try:
        for other in others:
            assert other.ask(start=True, image=IMAGE)[1] == ""
        assert "all 2 sessions" in stream.ask(start=True, image=IMAGE)[1]
        for other in others:
            assert other.ask(audio=SECOND, end=True) == (3, "")
    finally:
        for other in others:
            other.close()


def test_other_sessions_do_not_notice_bad_ones(server: LocalServer, stream: Stream) -> None:
    """A neighbour's mistake would be visible in one's own picture."""
    good = Stream(server, session=2001)
    try:
        good.send(start=True, image=IMAGE, audio=np.tile(SECOND, 3))
        for inputs, _ in BAD_STARTS[:3]:
            assert stream.ask(start=True, **inputs)[1]
        assert good.answer() == (6, "")
        assert good.ask(end=True) == (1, "")
    finally:
        good.close()


def kill_and_reload(server: LocalServer, model: str) -> None:
    """End a model's process and load it again, as an operator would."""
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in server.stub_pids()}
    (pid,) = (pid for pid, command in commands.items() if f"/{model}/" in command)
    os.kill(pid, signal.SIGKILL)
    with grpc.InferenceServerClient(server.grpc_url, channel_args=CHANNEL_ARGS) as client:
        client.unload_model(model, headers=server.admin_headers)
        while client.is_model_ready(model):
            time.sleep(0.05)
        client.load_model(model, headers=server.admin_headers)


@pytest.mark.parametrize(
    "model",
    [
        *(pytest.param(m, marks=pytest.mark.slow) for m in ("dit_stage_1", "vae_decoder")),
        "live_avatar",
    ],
)
def test_a_killed_model_is_whole_again_after_a_reload(server: LocalServer, model: str) -> None:
    """What the dead process or its partners held would be missing, or taken for ever. Sessions go
    on, but for those of the public model itself."""
    before = [Stream(server, session=s) for s in (4001, 4002)]
    for stream in before:
        assert stream.ask(start=True, image=IMAGE, audio=SECOND) == (2, "")
    kill_and_reload(server, model)
    for stream in before:
        blocks, error = stream.ask(audio=SECOND)
        assert (error != "") if model == "live_avatar" else (blocks, error) == (2, "")
        stream.close()
    assert wait_until_free(server) < 12


def test_the_server_is_healthy_after_all_that(server: LocalServer) -> None:
    """Health must tell the truth after the tests above."""
    client = grpc.InferenceServerClient(server.grpc_url, channel_args=CHANNEL_ARGS)
    assert client.is_server_ready()
    index = client.get_model_repository_index(headers=server.admin_headers, as_json=True)
    assert {m["state"] for m in index["models"]} == {"READY"}, json.dumps(index)
    client.close()
