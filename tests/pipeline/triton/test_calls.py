"""Calls of other models through a stand-in for Triton's module."""

import sys
from types import ModuleType

import numpy as np
import pytest

from pipeline.identity.holders import Identity


@pytest.mark.parametrize("holds_sessions", [False, True])
def test_answers_of_plans_come_to_the_host(serving: ModuleType, holds_sessions: bool) -> None:
    """Triton's TensorRT backend leaves them on the GPU, where no session could start from them."""
    calls = sys.modules["pipeline.triton.calls"]
    identity = Identity(
        model="live_avatar", max_sessions=1, config_file="pipeline.json", config={}, files={}
    )
    made = calls.BlsCalls(identity, {"vae_decoder": calls.StepTensors("answer")}, [])
    number = {"latent": np.zeros(1, np.float32)}
    if holds_sessions:
        answer = made.step("vae_decoder", 7, 0, number)
    else:
        answer = made.call("conditioning", number, ["answer"])["answer"]
    assert answer is not None
    assert answer.dtype == np.float32
    made.stop()
