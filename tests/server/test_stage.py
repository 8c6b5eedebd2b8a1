"""A model that holds sessions, called directly: the order of its blocks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from deploy.server.health import CHANNEL_ARGS
from deploy.server.local import LocalServer
from pipeline.config.avatar import PipelineConfig

pytestmark = pytest.mark.triton
CONFIG = PipelineConfig.load(
    Path(__file__).parents[2] / "artifacts" / "demo" / "pipeline.json",
)
SESSION = 4001
ADMIN = "admin_key"


def test_a_block_that_overtakes_is_refused_and_may_come_again(server: LocalServer) -> None:
    """It would be decoded on the wrong state, or wait for a block that is queued behind it."""
    client = grpc.InferenceServerClient(server.grpc_url, channel_args=CHANNEL_ARGS)

    def call(start: bool = False, end: bool = False, **arrays: np.ndarray) -> Any:
        inputs = []
        for name, array in arrays.items():
            kind = "INT64" if array.dtype == np.int64 else "FP32"
            tensor = grpc.InferInput(name, array.shape, kind)
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        return client.infer(
            "vae_decoder",
            inputs,
            sequence_id=SESSION,
            sequence_start=start,
            sequence_end=end,
            parameters={ADMIN: server.admin_key},
        )

    def decode(block: int) -> np.ndarray:
        latent = np.full(CONFIG.latent_shape, 0.1 * block, np.float32)
        return call(tick=np.array([block]), latent=latent).as_numpy("frames")

    _, channels, _, *size = CONFIG.latent_shape
    call(start=True, motion=np.zeros((1, channels, CONFIG.motion_frames, *size), np.float32))
    try:
        with pytest.raises(InferenceServerException, match=r"out of order: tick 1 .* tick 0"):
            decode(1)
        assert decode(0).shape == (12, CONFIG.height, CONFIG.width, 3)
        assert decode(1).shape == (12, CONFIG.height, CONFIG.width, 3)
        with pytest.raises(InferenceServerException, match="came twice"):
            decode(1)
    finally:
        call(end=True, tick=np.zeros(1, np.int64))
        client.close()
