"""Calls of other models through a stand-in for Triton's module."""

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pipeline.identity.holders import Identity
from pipeline.sessions.calls import ModelLost


def calls_of() -> Any:
    """Those of a public model with one holder."""
    calls = sys.modules["pipeline.triton.calls"]
    identity = Identity(
        model="live_avatar", max_sessions=1, config_file="pipeline.json", config={}, files={}
    )
    return calls.BlsCalls(identity, {"vae_decoder": calls.StepTensors("answer")}, [])


@pytest.mark.parametrize("holds_sessions", [False, True])
def test_answers_of_plans_come_to_the_host(serving: ModuleType, holds_sessions: bool) -> None:
    """Triton's TensorRT backend leaves them on the GPU, where no session could start from them."""
    made = calls_of()
    number = {"latent": np.zeros(1, np.float32)}
    if holds_sessions:
        answer = made.step("vae_decoder", 7, 0, number)
    else:
        answer = made.call("conditioning", number, ["answer"])["answer"]
    assert answer is not None
    assert answer.dtype == np.float32
    made.stop()


def test_a_session_is_not_sent_to_a_model_that_is_away(
    serving: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try left its tensors in shared memory: 50 MB of it with every second of a reload."""
    triton = sys.modules["triton_python_backend_utils"]
    monkeypatch.setattr(triton, "is_model_ready", lambda model: False, raising=False)
    monkeypatch.setattr(triton, "InferenceRequest", None)
    made = calls_of()
    with pytest.raises(ModelLost, match="vae_decoder is not loaded"):
        made.reopen("vae_decoder", 7, {"motion": np.zeros(1, np.float32)}, 3)
    made.stop()
