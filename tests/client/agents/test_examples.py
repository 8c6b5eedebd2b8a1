"""The examples for both frameworks run as they are, on the real server."""

import importlib.util
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from deploy.server.local import LocalServer
from live_avatar_client import read_audio
from tests.support.command_line import PORTRAIT, ROOT

EXAMPLES = ROOT / "examples"
MOUTH = (slice(3 * 52, 3 * 78), slice(3 * 30, 3 * 66))  # of the example portrait, enlarged


def needing(script: str, framework: str) -> Any:
    """A parameter that is skipped where the framework is not installed."""
    is_there = importlib.util.find_spec(framework) is not None
    reason = f"needs the packages of requirements/{framework}.lock"
    return pytest.param(script, marks=pytest.mark.skipif(not is_there, reason=reason), id=framework)


BOTH = [needing("pipecat_agent.py", "pipecat"), needing("livekit_avatar.py", "livekit")]


def run(script: str, *arguments: str | Path) -> str:
    """What the script prints, run as a user runs it."""
    command = [sys.executable, EXAMPLES / script, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "client")}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.long
@pytest.mark.parametrize("script", BOTH)
def test_every_example_explains_itself(script: str) -> None:
    """The first thing that a user asks."""
    assert "--out" in run(script, "--help")


@pytest.mark.triton
@pytest.mark.parametrize("script", BOTH)
def test_a_visitor_sees_an_agent_that_talks_and_is_interrupted(
    script: str, server: LocalServer, tmp_path: Path
) -> None:
    """Lips that move with the sound, and rest while there is none."""
    out = tmp_path / "agent.mp4"
    arguments = ("--image", PORTRAIT, "--audio", EXAMPLES / "speech.flac", "--out", out)
    said = run(script, *arguments, "--url", server.grpc_url)
    assert "interruptions=1" in said
    with av.open(str(out)) as container:
        mouths = np.stack([
            frame.to_ndarray(format="rgb24")[MOUTH] for frame in container.decode(video=0)
        ]).astype(float)  # fmt: skip
    sound = np.concatenate(list(read_audio(out)))[: 640 * len(mouths)]
    voiced = np.abs(sound[: len(sound) // 640 * 640]).reshape(-1, 640).max(1) > 0.01
    spoken = np.flatnonzero(voiced)
    pause, end = max((after - before, after) for before, after in pairwise(spoken))
    assert pause >= 20, "nobody speaks for a while after the interruption"
    moves = np.abs(np.diff(mouths, axis=0)).mean((1, 2, 3))
    assert moves[spoken[:-1]].mean() > 3 * moves[end - 10 : end - 4].mean()
