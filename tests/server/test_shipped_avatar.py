"""The shipped weights make the same video in torch, in ONNX Runtime and out of the real server."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the training part needs torch")

from deploy.server.local import LocalServer
from live_avatar_client import Session, read_audio
from networks.checkpoint import load_checkpoint
from networks.dit import DiT
from train.evaluate.sources import ArtifactsSource, Source, TorchSource, sampling_seed
from train.latents.takes import FrozenNetworks
from train.network.stream_network import RolloutOptions
from train.preset import PRESET
from train.world.clips import Take, take
from train.world.motion import FPS

pytestmark = pytest.mark.triton
ROOT = Path(__file__).parents[2]
DEMO = ROOT / "artifacts" / "demo"
SECONDS = 4
"""8 blocks and a part: the reference is re-calibrated, the window rolls."""


@pytest.fixture(scope="module")
def asked() -> Take:
    """An unseen face with the example sentence."""
    audio = np.concatenate(list(read_audio(ROOT / "examples" / "speech.flac")))
    return take(3, SECONDS * FPS, audio=audio)


def frames_from(source: Source, asked: Take) -> np.ndarray:
    try:
        made = np.concatenate([piece[0] for piece in source.generate([asked], 0)])
    finally:
        source.close()
    return made[: asked.num_frames]


@pytest.fixture(scope="module")
def in_torch(asked: Take) -> np.ndarray:
    dit = load_checkpoint(DiT(PRESET.dit), DEMO / "dit.safetensors")
    source = TorchSource(dit, FrozenNetworks.load(DEMO), RolloutOptions(), batch=1)
    return frames_from(source, asked)


def largest(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def test_onnx_runtime_makes_the_frames_of_torch(asked: Take, in_torch: np.ndarray) -> None:
    """What was trained and judged would not be what is served."""
    assert largest(frames_from(ArtifactsSource(DEMO), asked), in_torch) <= 1


def test_the_server_makes_the_frames_of_torch(
    server: LocalServer, asked: Take, in_torch: np.ndarray
) -> None:
    """Nothing between the wire and the networks may change the picture."""
    options = {"sink_distance": PRESET.pipeline.sink_distance}
    seed = sampling_seed(asked, 0)
    with Session(url=server.grpc_url, image=asked.reference, prompt=asked.caption, seed=seed,
                 options=options) as session:  # fmt: skip
        served = np.concatenate([block.frames for block in session.stream([asked.audio])])
    assert largest(served[: asked.num_frames], in_torch) <= 1
