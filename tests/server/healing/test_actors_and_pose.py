"""Two who speak and follow a pose video, while models' processes die."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from deploy.server.local import LocalServer
from export.repository.assemble import assemble
from live_avatar_client import Session
from tests.server.healing.supervision import pid_of, supervised, until

pytestmark = [pytest.mark.triton, pytest.mark.slow]
ROOT = Path(__file__).parents[3]
TWO = ROOT / "examples" / "two"
BLOCK, SIZE, NUM_BLOCKS = 7680, 12, 12
MODELS = ("dit_stage_0", "dit_stage_1", "vae_decoder", "pose_encoder", "audio_encoder")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("posed")
    demo = ROOT / "artifacts" / "demo"
    repository = assemble(demo, folder / "repository", steps="0,1 2,3", pose=True)
    with LocalServer(repository, log_dir=folder / "log") as server:
        yield server


def spoken(server: LocalServer, fault: Callable[[], None] | None = None) -> np.ndarray:
    """Frames of a session in real time; `fault` strikes in its middle."""
    draw = np.random.default_rng(0)
    speech = (0.1 * draw.standard_normal((2, NUM_BLOCKS * BLOCK))).astype(np.float32)
    video = draw.integers(0, 256, (NUM_BLOCKS * SIZE, 40, 40, 3), np.uint8)

    def paced() -> Iterator[np.ndarray]:
        began = time.monotonic()
        for number, part in enumerate(np.split(speech, NUM_BLOCKS, axis=1)):
            time.sleep(max(0.0, began + 0.48 * number - time.monotonic()))
            if number == NUM_BLOCKS // 2 and fault is not None:
                fault()
            yield part

    with Session(
        url=server.grpc_url,
        image=TWO / "picture.png",
        actors=[TWO / "left.png", TWO / "right.png"],
        idle=False,
    ) as session:
        blocks = list(session.stream(paced(), pose=video))
    return np.concatenate([block.frames for block in blocks])


@pytest.fixture(scope="module")
def undisturbed(server: LocalServer) -> np.ndarray:
    return spoken(server)


@pytest.mark.parametrize("model", MODELS)
def test_frames_after_a_death_are_those_of_an_undisturbed_run(
    server: LocalServer, undisturbed: np.ndarray, model: str
) -> None:
    """A stage would come back with one actor, or the encoder in the middle of a clip."""
    with supervised(server) as supervisor:
        found = spoken(server, lambda: os.kill(pid_of(server, model), signal.SIGKILL))
        until(supervisor, True, 30)
    np.testing.assert_array_equal(found, undisturbed)
