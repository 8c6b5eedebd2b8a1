"""Text-to-video streams outlive the deaths of their models' processes, on a supervised server."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from deploy.server.local import LocalServer
from deploy.server.supervisor import Supervisor
from export.repository.assemble import assemble
from live_avatar_client import VideoStream
from tests.server.healing.supervision import pid_of, supervised, until

pytestmark = [pytest.mark.triton, pytest.mark.slow]
DEMO = Path(__file__).parents[3] / "artifacts" / "rolling-demo"
NUM_BLOCKS = 16


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("rolling_deaths")
    repository = assemble(DEMO, folder / "repository")
    with LocalServer(repository, log_dir=folder / "log") as server:
        yield server


@pytest.fixture
def supervisor(server: LocalServer) -> Iterator[Supervisor]:
    with supervised(server) as supervisor:
        yield supervisor


def filmed(
    server: LocalServer, rules: str, model: str | None = None
) -> tuple[list[np.ndarray], float]:
    """Frames of a stream, block by block, and its longest gap in seconds. The process of `model`
    is killed in the middle; a new prompt comes right after that."""
    times, frames, half = [], [], NUM_BLOCKS // 2
    options = {"blocks": NUM_BLOCKS, "rules": rules}
    with VideoStream(prompt="fog", seed=3, url=server.grpc_url, options=options) as stream:
        for block in stream.blocks(half):
            frames.append(block.frames)
            times.append(time.monotonic())
            if model is not None and block.block == half - 2:
                os.kill(pid_of(server, model), signal.SIGKILL)
        for block in stream.finish(prompt="rain"):
            frames.append(block.frames)
            times.append(time.monotonic())
    return frames, float(np.diff(times).max())


@pytest.fixture(scope="module")
def undisturbed(server: LocalServer) -> dict[str, list[np.ndarray]]:
    """By rules, as they are wanted."""

    class Runs(dict[str, list[np.ndarray]]):
        def __missing__(self, rules: str) -> list[np.ndarray]:
            self[rules], _ = filmed(server, rules)
            return self[rules]

    return Runs()


DEATHS = [
    ("rolling_forcing", "dit_window"),
    ("rolling_forcing", "rolling_vae_decoder"),
    ("rolling_forcing", "rolling_text_encoder"),
    ("longlive", "dit_window"),
]


@pytest.mark.parametrize(("rules", "model"), DEATHS)
def test_a_stream_outlives_a_death_and_its_frames_are_the_same(
    server: LocalServer,
    supervisor: Supervisor,
    undisturbed: dict[str, list[np.ndarray]],
    rules: str,
    model: str,
) -> None:
    """A viewer would see the end, or another video."""
    found, gap_s = filmed(server, rules, model)
    print(f"{model} under {rules}: longest gap {gap_s:.2f} s")
    for one, other in zip(found, undisturbed[rules], strict=True):
        np.testing.assert_array_equal(one, other)
    assert gap_s < 15  # 3 s on an idle machine
    until(supervisor, True, 20)


def test_a_stream_that_meets_a_dead_model_starts_a_little_later(
    server: LocalServer, supervisor: Supervisor, undisturbed: dict[str, list[np.ndarray]]
) -> None:
    """A client would be refused by a server that is whole again in a few seconds."""
    os.kill(pid_of(server, "dit_window"), signal.SIGKILL)
    found, _ = filmed(server, "rolling_forcing")
    for one, other in zip(found, undisturbed["rolling_forcing"], strict=True):
        np.testing.assert_array_equal(one, other)
    until(supervisor, True, 20)


def test_two_streams_outlive_a_model_that_dies_again_when_it_is_back(
    server: LocalServer, supervisor: Supervisor, undisturbed: dict[str, list[np.ndarray]]
) -> None:
    """Whoever came second, or the second time, would be cut off."""
    wanted = undisturbed["rolling_forcing"]

    def film(model: str | None) -> list[np.ndarray]:
        return filmed(server, "rolling_forcing", model)[0]

    with ThreadPoolExecutor(2) as pool:
        films = [pool.submit(film, model) for model in ("dit_window", None)]
        until(supervisor, False, 60)
        until(supervisor, True, 20)
        os.kill(pid_of(server, "dit_window"), signal.SIGKILL)
        found = [each.result() for each in films]
    for frames in found:
        for one, other in zip(frames, wanted, strict=True):
            np.testing.assert_array_equal(one, other)
    until(supervisor, True, 20)
