"""Requests that make no sense, by the thousand, to both public models of the real server."""

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc

from deploy.server.health import CHANNEL_ARGS
from deploy.server.local import LocalServer
from export.repository.assemble import assemble
from tests.faults.scene import memory_mb
from tests.faults.wild_requests import DTYPES, Drawer, Wild
from tests.support.raw_stream import IMAGE, Stream, wait_until_free

pytestmark = [pytest.mark.triton, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
WINDOW = 64  # requests under way at once
PROMPT = ("UINT8", np.frombuffer(b"a lighthouse", np.uint8))
VALID: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "live_avatar": ({"image": ("UINT8", IMAGE)}, {"audio": ("FP32", np.zeros(160, np.float32))}),
    "rolling_forcing": ({"prompt": PROMPT}, {"num_blocks": ("INT64", np.zeros(1, np.int64))}),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("wild")
    both = [ROOT / "artifacts" / name for name in ("demo", "rolling-demo")]
    assemble(both, folder / "repository", steps="0,1,2,3")
    with LocalServer(folder / "repository", log_dir=folder / "log") as server:
        yield server


class Sender:
    """A stream to one model that keeps the words of every refusal."""

    def __init__(self, url: str, model: str) -> None:
        self.model = model
        self.client = grpc.InferenceServerClient(url, channel_args=CHANNEL_ARGS)
        self.heard: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.client.start_stream(self._hear)
        self.num_open = 0
        self.words: set[str] = set()

    def _hear(self, result: Any, error: Any) -> None:
        if error is not None:
            self.heard.put(str(error))
        elif result.get_response().parameters["triton_final_response"].bool_param:
            self.heard.put("")

    def send(self, wild: Wild) -> bool:
        """Whether the client library takes it."""
        inputs = []
        for name, (datatype, values) in wild.tensors.items():
            tensor = grpc.InferInput(name, values.shape, datatype)
            tensor.set_data_from_numpy(values.astype(DTYPES[datatype]))
            inputs.append(tensor)
        self.client.async_stream_infer(
            self.model,
            inputs,
            sequence_id=wild.sequence,
            sequence_start=wild.start,
            sequence_end=wild.end,
            enable_empty_final_response=True,
        )
        self.num_open += 1
        while self.num_open >= WINDOW:
            self.take()
        return True

    def take(self) -> None:
        """AssertionError if the server says nothing for a minute."""
        try:
            self.words.add(self.heard.get(timeout=60)[:400])
        except queue.Empty:
            raise AssertionError(f"{self.num_open} requests without an answer") from None
        self.num_open -= 1

    def close(self) -> None:
        while self.num_open:
            self.take()
        self.client.stop_stream(cancel_requests=True)
        self.client.close()


@pytest.mark.parametrize("model", VALID)
@pytest.mark.parametrize("count", [2_000, 50_000])
def test_no_request_takes_the_server_down_or_its_memory(
    server: LocalServer, model: str, count: int
) -> None:
    """Who sends nonsense gets words, and everybody else is served as before."""
    stubs = server.stub_pids()
    with grpc.InferenceServerClient(server.grpc_url, channel_args=CHANNEL_ARGS) as client:
        inputs = client.get_model_config(model, as_json=True)["config"]["input"]
    sender = Sender(server.grpc_url, model)
    drawer = Drawer(inputs, *VALID[model], seed=count)
    sizes = []
    for number in range(count):
        sender.send(drawer.request())
        if number % (count // 8) == count // 8 - 1:
            sizes.append(sum(memory_mb(pid) for pid in (server.pid, *stubs)))
    sender.close()
    print(f"{model}: {count} requests, {len(sender.words)} answers, MB {np.round(sizes)}")
    assert server.stub_pids() == stubs
    assert max(sizes[4:]) < sizes[3] + 100
    odd = [words for words in sender.words if "Traceback" in words or ".py" in words]
    assert odd == []
    wait_until_free(server, 30)
    probe = Stream(server)
    assert probe.ask(start=True, image=IMAGE, audio=np.zeros(17_000, np.float32)) == (2, "")
    assert probe.ask(end=True)[1] == ""
    probe.close()
    assert server.log.read_text().count("Traceback") == 0
