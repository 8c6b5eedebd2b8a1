"""Rolling Forcing in eager PyTorch against the release: streams, windows, caches, and faults."""

import dataclasses
import functools
import re
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import networks.causal_wan as causal_wan
from networks.causal_wan import CausalWan
from pipeline.denoising.positions import grid, tables
from pipeline.denoising.schedule import clean_of
from pipeline.rolling.plan import Pass, RollingPlan
from tests.golden.fixtures import max_abs
from tests.golden.rolling.fixtures import (
    STREAMS,
    TOLERANCE,
    RecordingStage,
    arrays,
    main_stream,
    needs_rolling,
    preset,
    torch_stage,
    with_file,
)
from tests.golden.rolling.plays import play, turned
from tests.support.wan_masks import block_causal

pytestmark = [needs_rolling, pytest.mark.usefixtures("one_thread")]

FAULT = 10 * TOLERANCE
"""A tenth of what the smallest of the faults below was seen to move."""


@functools.cache
def played(folder: str) -> tuple[RecordingStage, NDArray[Any]]:
    """A stage that has played the fixture's stream, and the latents."""
    stage = torch_stage(folder)
    return stage, play(stage, folder)


@pytest.mark.parametrize("folder", STREAMS)
def test_a_stream_equals_the_release(folder: str) -> None:
    """Any rule of the window, the cache or the sampler would be wrong."""
    _, latents = played(folder)
    assert max_abs(latents, arrays(folder, "final")["latents"]) <= TOLERANCE


@pytest.mark.parametrize("folder", STREAMS)
def test_every_window_equals_the_release(folder: str) -> None:
    """Tells in which window a stream leaves the release."""
    (stage, latents), data = played(folder), arrays(folder, "windows")
    rows = len(latents)
    compared = 0
    assert data
    for i, (each, latent, velocity) in enumerate(stage.windows):
        tick, row = divmod(i, rows)
        wanted = {
            name: data[key][row : row + 1]
            for name in ("input", "timestep", "flow", "x0")
            if (key := f"w{tick:03d}.denoise.{name}") in data
        }
        levels = np.repeat(each.levels, stage.config.frames_per_block)
        sigmas = stage.levels.sigmas[levels][:, None, None]
        got = {
            "input": turned(latent),
            "timestep": stage.levels.timesteps[levels][None],
            "flow": turned(velocity),
            "x0": turned(latent - sigmas * velocity),
        }
        for name, array in wanted.items():
            tolerance = 1e-3 if name == "timestep" else TOLERANCE
            assert max_abs(got[name], array) <= tolerance, (tick, name)
        compared += len(wanted)
    assert compared == rows * len(data)


def _own_attention(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Notes what every attention returns, [1, N, L, d]."""
    results, attend = [], causal_wan.attend

    def noting(*args: Any) -> torch.Tensor:
        results.append(attend(*args))
        return results[-1]

    monkeypatch.setattr(causal_wan.WanBlock, "attend", staticmethod(noting))
    return results


@pytest.mark.parametrize("folder", with_file("attention"))
def test_attention_of_the_last_layer_equals_the_release(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys in the cache's order, and positions counted from the sink, must not matter."""
    data, results = arrays(folder, "attention"), _own_attention(monkeypatch)
    by_tick: dict[int, list[list[torch.Tensor]]] = {}

    class Stage(RecordingStage):
        def velocity(self, state: Any, each: Pass, latent: Any) -> Any:
            results.clear()
            velocity = super().velocity(state, each, latent)
            by_tick.setdefault(state.next_tick, []).append(results[::2])  # self and cross in turn
            return velocity

    stage = torch_stage(folder)
    play(Stage(stage.config, stage.engines, _constants(stage)), folder)
    wanted = [match for key in data if (match := ATTENTION.fullmatch(key))]
    assert wanted
    for match in wanted:
        rows = [layers[int(match["layer"])] for layers in by_tick[int(match["window"])]]
        got = torch.cat(rows).transpose(1, 2)
        assert max_abs(got, data[match[0]]) <= TOLERANCE, match[0]


def _constants(stage: RecordingStage) -> dict[str, Any]:
    timesteps = [*stage.levels.timesteps, stage.config.context_timestep]
    return {
        "timesteps": np.array(timesteps, np.float32),
        "modulation": stage.modulation,
        "head_modulation": stage.head_modulation,
    }


@pytest.mark.parametrize("folder", with_file("attention"))
def test_the_cache_holds_what_the_release_holds(folder: str) -> None:
    """Slot by slot: ours stay where they are, the release shifts them and stores rotated keys."""
    data, (stage, _) = arrays(folder, "attention"), played(folder)
    config, last = stage.config, stage.config.num_layers - 1
    stored: dict[int, list[dict[str, Any]]] = {}
    for each, cache in stage.stored:  # rows of a batch in turn
        stored.setdefault(each.blocks.start, []).append(cache)
    listed = [key for key in data if key.endswith(f"update.layer{last}.cache_v")]
    compared = 0
    for key in listed:
        block = int(key[1:].split(".")[0]) - config.num_levels + 1
        if block not in stored:
            continue  # the clean pass after the last block, which nobody reads
        for kv in "kv":
            rows = np.concatenate([cache[kv] for cache in stored[block]])
            got = _in_stream_order(rows, block, config, rotated=kv == "k")
            wanted = data[key.removesuffix("v") + kv]
            assert max_abs(got, wanted[:, : got.shape[1]]) <= TOLERANCE, (key, kv)
        compared += 1
    # Updates before the first finished block, and the one after the last, are the release's own.
    assert compared >= max(1, len(listed) - 1)


def _in_stream_order(cache: Any, newest: int, config: Any, rotated: bool) -> Any:
    """cache [1, N, K, d] -> [1, tokens, N, d]: the sink, then the ring's blocks, oldest first."""
    plan, size = RollingPlan(config), config.tokens_per_block
    blocks = [0, *range(max(1, newest - config.ring_blocks + 1), newest + 1)]
    blocks = blocks[: newest + 1]
    parts = []
    for block in blocks:
        part = cache[:, :, plan.slot(block) * size :][:, :, :size].transpose(0, 2, 1, 3)
        if rotated and block:
            first = block * config.frames_per_block
            frames = tuple(range(first, first + config.frames_per_block))
            cos, sin = (
                t[None, :, None] for t in tables(grid(frames, config.token_grid), config.head_dim)
            )
            even, odd = part[..., 0::2], part[..., 1::2]
            part = np.stack([even * cos - odd * sin, even * sin + odd * cos], -1).reshape(
                part.shape
            )
        parts.append(part)
    return np.concatenate(parts, axis=1)


ATTENTION = re.compile(r"w(?P<window>\d+)\.denoise\.layer(?P<layer>\d+)\.attn_out")
NO_HISTORY = "no recent history in a full window"
RULES: dict[str, dict[str, Any]] = {
    "no sink": {"sink_frames": 0},
    NO_HISTORY: {},
    "the sink keeps its first position": {"sink_position": "true"},
    "the clean pass keeps seeing the sink": {"clean_sees_sink": True},
}


@pytest.mark.parametrize("fault", RULES)
def test_another_rule_is_noticed(fault: str) -> None:
    """The comparison would let a wrong cache policy pass."""
    folder, rules = main_stream(), RULES[fault]
    if fault == NO_HISTORY:
        config = preset(folder).stream
        rules = {"span_frames": config.num_levels * config.frames_per_block + config.sink_frames}
        if rules["span_frames"] == config.span_frames:
            pytest.skip(f"the span of {folder} has no room for recent history")
    latents = play(torch_stage(folder, **rules), folder)
    assert max_abs(latents, arrays(folder, "final")["latents"]) > FAULT


def test_a_causal_window_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a window must see each other both ways."""
    folder = main_stream()
    velocity, config = CausalWan.velocity, preset(folder).stream

    def masked(self: CausalWan, latent: Any, *args: Any) -> torch.Tensor:
        modulation, head, sight, *rest = args
        own = block_causal(latent.shape[2], config.frames_per_block, config.tokens_per_frame)
        history = sight.cos_k.shape[1] - own.shape[-1]
        seen = torch.nn.functional.pad(own, (history, 0), value=True)
        sight = dataclasses.replace(sight, seen=seen)
        return velocity(self, latent, modulation, head, sight, *rest)

    monkeypatch.setattr(CausalWan, "velocity", masked)
    latents = play(torch_stage(folder), folder)
    assert max_abs(latents, arrays(folder, "final")["latents"]) > FAULT


def test_a_clean_pass_without_history_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cached K/V depend on the blocks before them."""
    folder, clean_pass = main_stream(), RollingPlan.clean_pass

    def alone(self: RollingPlan, block: int) -> Pass:
        return dataclasses.replace(clean_pass(self, block), history=())

    monkeypatch.setattr(RollingPlan, "clean_pass", alone)
    latents = play(torch_stage(folder), folder)
    assert max_abs(latents, arrays(folder, "final")["latents"]) > FAULT


@pytest.mark.parametrize("folder", STREAMS)
def test_the_clean_prediction_is_what_the_last_level_leaves(folder: str) -> None:
    """A window's output is a velocity; the finished block is the latent it predicts."""
    stage, latents = played(folder)
    each, latent, velocity = stage.windows[-1]
    assert list(each.levels) == [stage.config.num_levels - 1]
    clean = clean_of(latent, velocity, float(stage.levels.sigmas[-1]))
    assert max_abs(turned(clean), latents[-1:, -stage.config.frames_per_block :]) == 0
