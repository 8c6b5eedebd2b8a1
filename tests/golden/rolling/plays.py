"""The streams of the rolling-forcing fixtures, played on a stage; latents come back."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.rolling.window import WindowStage
from tests.golden.rolling.fixtures import Arrays, arrays, facts


def by_block(latents: NDArray[Any], row: int, frames: int) -> list[NDArray[Any]]:
    """[B, F, C, h, w] -> blocks [1, C, f, h, w] of one row."""
    turned = np.ascontiguousarray(latents[row : row + 1].transpose(0, 2, 1, 3, 4))
    return [turned[:, :, i : i + frames] for i in range(0, turned.shape[2], frames)]


def turned(latent: NDArray[Any]) -> NDArray[Any]:
    """[1, C, F, h, w], as stages hold latents, to [1, F, C, h, w], as fixtures do, and back."""
    return latent.transpose(0, 2, 1, 3, 4)


def stored_noise(data: Arrays, row: int, frames: int, prefix: str = "") -> Callable[..., Any]:
    """The fixture's draws as a stage asks for them; level 0 is where a block enters."""
    first = by_block(data[f"{prefix}noise"], row, frames)
    later = data[f"{prefix}renoise"]

    def draw(block: int, level: int) -> NDArray[Any]:
        return first[block] if level == 0 else turned(later[block, level - 1][row : row + 1])

    return draw


def play(stage: WindowStage, folder: str) -> NDArray[Any]:
    """A whole rolling stream, rows of its batch as sessions in turn -> latents [B, F, C, h, w]."""
    data, frames = arrays(folder, "inputs"), stage.config.frames_per_block
    rows = range(len(data["noise"]))
    num_blocks = data["noise"].shape[1] // frames
    blocks: dict[int, list[NDArray[Any]]] = {row: [] for row in rows}
    for row in rows:
        stage.open(row, data["prompt_embeds"][row : row + 1], stored_noise(data, row, frames))
    for tick in range(num_blocks + stage.config.window_blocks - 1):
        for row in rows:
            if tick == num_blocks:
                stage.end(row)
            if (done := stage.step(row)) is not None:
                blocks[row].append(turned(done.latent))
    assert all(stage.sessions[row].done for row in rows)
    for row in rows:
        stage.close(row)
    return np.concatenate([np.concatenate(blocks[row], axis=1) for row in rows])


def cases(folder: str) -> list[dict[str, Any]]:
    """Cases of a fixture set for parametrisation; none where the fixtures are absent."""
    try:
        return facts(folder)["cases"]
    except pytest.skip.Exception:
        return []


def named(case: dict[str, Any]) -> str:
    return case["case"]


def self_forcing_rules(case: dict[str, Any]) -> dict[str, Any]:
    """RollingConfig fields of a case of `self_forcing`."""
    local = case["local_attn_size"]
    frames = facts("self_forcing")["config"]["frames_per_block"]
    return {
        "schedule": "sequential",
        "span_frames": local if local > 0 else case["num_blocks"] * frames,
        "sink_frames": case["sink_size"],
        "sink_position": "true",
        "clean_sees_sink": True,
    }


def longlive_rules(case: dict[str, Any]) -> dict[str, Any]:
    """RollingConfig fields of a case of `longlive_switch`."""
    config = facts("longlive_switch")["config"]
    return {
        "schedule": "sequential",
        "span_frames": config["local_attn_size"],
        "sink_frames": config["sink_size"],
        "sink_position": {"absolute": "true", "relative": "adjacent"}[case["rope"]],
        "clean_sees_sink": True,
        "recache": "keep_sink" if case["global_sink"] else "new_sink",
    }


def play_case(stage: WindowStage, folder: str, name: str, case: dict[str, Any]) -> NDArray[Any]:
    """A case of `self_forcing` or `longlive_switch` -> latents [1, F, C, h, w].

    The prompt changes before the first block that starts at or after each of `switch_frames`.
    """
    data, prefix = arrays(folder, name), f"{case['case']}."
    frames, switches = stage.config.frames_per_block, list(case.get("switch_frames", ()))
    prompts = iter(data.get(f"{prefix}prompts", [data.get(f"{prefix}prompt_embeds")]))
    stage.open(0, next(prompts), stored_noise(data, 0, frames, prefix))
    blocks = []
    for block in range(case["num_blocks"]):
        if switches and block * frames >= switches[0]:
            switches.pop(0)
            stage.switch(0, next(prompts))
        blocks.append(turned(stage.step(0).latent))
    stage.close(0)
    return np.concatenate(blocks, axis=1)
