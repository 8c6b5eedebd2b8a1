"""Bad requests to the real server: what comes back tells nothing of its files and its code."""

from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from deploy.server.health import CHANNEL_ARGS
from deploy.server.local import LocalServer
from tests.pipeline.sessions.test_words import FORBIDDEN
from tests.support.raw_stream import IMAGE, Stream, wait_until_free

pytestmark = pytest.mark.triton


def text(words: str) -> np.ndarray:
    return np.frombuffer(words.encode(), np.uint8)


STARTS: dict[str, dict[str, np.ndarray]] = {
    "no picture": {},
    "a picture of noise": {"image": np.arange(250, dtype=np.uint8)},
    "half a picture": {"image": IMAGE[: len(IMAGE) // 2].copy()},
    "a picture in two dimensions": {"image_rgb": np.zeros((4, 4, 4), np.uint8)},
    "options of text": {"image": IMAGE, "options": text("{")},
    "options in depth": {"image": IMAGE, "options": text("[" * 3000)},
    "too many options": {"image": IMAGE, "options": np.full(200_000, 32, np.uint8)},
    "an endless prompt": {"image": IMAGE, "prompt": np.full(10_000_000, 65, np.uint8)},
    "text of another width": {"image": IMAGE, "text": np.zeros((3, 5), np.float32)},
    "noise of another shape": {"image": IMAGE, "noise": np.zeros((1, 2, 3, 4, 5), np.float32)},
    "features of another shape": {
        "image": IMAGE,
        "audio_features": np.zeros((1, 1, 1, 1), np.float32),
    },
    "two seeds": {"image": IMAGE, "seed": np.zeros(2, np.int64)},
    "an interruption": {"image": IMAGE, "interrupt": np.zeros(1, np.int64)},
    "another type": {"image": IMAGE, "audio": np.zeros(4, np.int16)},
    "an unknown input": {"image": IMAGE, "surprise": np.zeros(4, np.float32)},
}


def answers(server: LocalServer, start: dict[str, np.ndarray]) -> list[str]:
    """What START and the sound behind it hear."""
    stream = Stream(server)
    heard = [stream.ask(start=True, **start)[1], stream.ask(audio=np.zeros(8, np.float32))[1]]
    stream.close()
    return heard


@pytest.mark.parametrize("kind", STARTS)
def test_a_bad_request_learns_nothing_of_the_machine(server: LocalServer, kind: str) -> None:
    """Paths and lines of code help whoever looks for a way in."""
    for heard in answers(server, STARTS[kind]):
        assert heard
        assert not [sign for sign in FORBIDDEN if sign in heard], heard
    wait_until_free(server)


@pytest.mark.parametrize(
    "model", ["dit_stage_1", "vae_decoder", "audio_encoder", "conditioning", "x"]
)
def test_a_model_that_is_not_for_clients_tells_nothing(server: LocalServer, model: str) -> None:
    """Its inputs are of no use to a client, whatever they are."""
    tensor = grpc.InferInput("tick", [3], "INT64")
    tensor.set_data_from_numpy(np.zeros(3, np.int64))
    given: dict[str, Any] = {"sequence_id": 3, "sequence_start": True}
    with (
        grpc.InferenceServerClient(server.grpc_url, channel_args=CHANNEL_ARGS) as client,
        pytest.raises(InferenceServerException) as refused,
    ):
        client.infer(model, [tensor], **given)
    assert not [sign for sign in FORBIDDEN if sign in str(refused.value)], refused.value
