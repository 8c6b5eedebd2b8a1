"""Self-Forcing, LongLive and full-sequence forwards in eager PyTorch against the release."""

from typing import Any

import numpy as np
import pytest
import torch

from networks.causal_wan import CausalWan, wan_key
from networks.checkpoint import load_checkpoint
from pipeline.denoising.positions import grid, tables
from pipeline.denoising.schedule import NoiseTable
from pipeline.rolling.plan import RollingPlan
from tests.golden.fixtures import max_abs
from tests.golden.presets import wan_config
from tests.golden.rolling.fixtures import (
    TOLERANCE,
    arrays,
    facts,
    needs_rolling,
    network,
    rolling_file,
    torch_stage,
)
from tests.golden.rolling.plays import (
    cases,
    longlive_rules,
    named,
    play_case,
    self_forcing_rules,
    turned,
)
from tests.support.wan_masks import block_causal, teacher_forcing

pytestmark = needs_rolling


@pytest.mark.parametrize("case", cases("self_forcing"), ids=named)
def test_self_forcing_equals_the_release(case: dict[str, Any]) -> None:
    """The same planner in sequence, with a global or a local cache and a sink that stays."""
    stage = torch_stage("self_forcing", **self_forcing_rules(case))
    data, name = arrays("self_forcing", "self_forcing"), case["case"]
    latents = play_case(stage, "self_forcing", "self_forcing", case)
    assert max_abs(latents, data[f"{name}.latents"]) <= TOLERANCE
    wanted = data[f"{name}.step_x0"]
    steps = iter(stage.windows)
    for block in range(wanted.shape[0]):
        for level in range(wanted.shape[1]):
            _, latent, velocity = next(steps)
            clean = turned(latent - stage.levels.sigmas[level] * velocity)
            assert max_abs(clean, wanted[block, level]) <= TOLERANCE, (block, level)


@pytest.mark.parametrize("case", cases("longlive_switch"), ids=named)
def test_prompt_switches_equal_the_release(case: dict[str, Any]) -> None:
    """A cache run again under a new prompt, with the old sink or a new one."""
    stage = torch_stage("longlive_switch", **longlive_rules(case))
    latents = play_case(stage, "longlive_switch", "longlive", case)
    assert max_abs(latents, arrays("longlive_switch", "longlive")[f"{named(case)}.latents"]) <= (
        TOLERANCE
    )


@pytest.mark.parametrize("case", cases("longlive_switch"), ids=named)
def test_the_cache_after_a_switch_equals_the_release(case: dict[str, Any]) -> None:
    """Which slots are rewritten, in which order, and that the old sink is left alone."""
    stage = torch_stage("longlive_switch", **longlive_rules(case))
    play_case(stage, "longlive_switch", "longlive", case)
    data, config = arrays("longlive_switch", "longlive"), stage.config
    again, seen = [], set[int]()
    for each, cache in stage.stored:  # a block that is stored once more belongs to a switch
        if seen & set(each.blocks):
            again.append((each, cache))
        seen |= set(each.blocks)
    assert len(again) == len(case["switch_frames"])
    for i, (each, cache) in enumerate(again):
        wanted = {kv: data[f"{case['case']}.after_switch{i}.{kv}"] for kv in "kv"}
        got = {kv: cache[kv].transpose(0, 2, 1, 3)[:, : wanted[kv].shape[1]] for kv in "kv"}
        assert max_abs(got["v"], wanted["v"]) <= TOLERANCE
        if case["rope"] == "absolute":
            blocks = [*(key.block for key in each.history), *each.stored]
            frames = [
                b * config.frames_per_block + f
                for b in blocks
                for f in range(config.frames_per_block)
            ]
            table = tables(grid(tuple(frames), config.token_grid), config.head_dim)
            cos, sin = (t[None, :, None] for t in table)
            even, odd = got["k"][..., 0::2], got["k"][..., 1::2]
            pairs = np.stack([even * cos - odd * sin, even * sin + odd * cos], -1)
            got["k"] = pairs.reshape(got["k"].shape)
        assert max_abs(got["k"], wanted["k"]) <= TOLERANCE


def test_a_cache_that_is_not_run_again_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison would let a server ignore the old prompt's K/V."""
    monkeypatch.setattr(RollingPlan, "switch_tick", RollingPlan.tick)
    case = max(facts("longlive_switch")["cases"], key=lambda each: len(each["switch_frames"]))
    stage = torch_stage("longlive_switch", **longlive_rules(case))
    latents = play_case(stage, "longlive_switch", "longlive", case)
    wanted = arrays("longlive_switch", "longlive")[f"{named(case)}.latents"]
    assert max_abs(latents, wanted) > 10 * TOLERANCE


def full(name: str) -> torch.Tensor:
    return torch.from_numpy(arrays("self_forcing", "self_forcing")[f"full.{name}"])


@torch.inference_mode()
def test_a_block_causal_forward_equals_the_release() -> None:
    """Training before distillation sees blocks in the order a stream makes them."""
    wan, latent = network("self_forcing"), full("x").transpose(1, 2)
    frames = facts("self_forcing")["config"]["frames_per_block"]
    seen = block_causal(latent.shape[2], frames, wan.tokens_per_frame(latent))
    velocity = wan(latent, full("timestep"), full("prompt_embeds"), seen)
    assert max_abs(velocity.transpose(1, 2), full("block_causal.flow")) <= TOLERANCE
    x0 = latent - _sigmas(full("timestep")) * velocity
    assert max_abs(x0.transpose(1, 2), full("block_causal.x0")) <= TOLERANCE


@torch.inference_mode()
def test_a_teacher_forced_forward_equals_the_release() -> None:
    """A noisy block must see the clean blocks before it, and no clean copy of itself."""
    wan, latent = network("self_forcing"), full("x").transpose(1, 2)
    frames = facts("self_forcing")["config"]["frames_per_block"]
    clean = full("clean_x").transpose(1, 2)
    velocity = teacher_forced(wan, latent, clean, full("timestep"), full("prompt_embeds"), frames)
    assert max_abs(velocity.transpose(1, 2), full("teacher_forcing.flow")) <= TOLERANCE
    x0 = latent - _sigmas(full("timestep")) * velocity
    assert max_abs(x0.transpose(1, 2), full("teacher_forcing.x0")) <= TOLERANCE


def teacher_forced(
    wan: CausalWan,
    latent: torch.Tensor,
    clean: torch.Tensor,
    timesteps: torch.Tensor,
    text: torch.Tensor,
    frames_per_block: int,
) -> torch.Tensor:
    """Velocity of a noisy clip whose blocks see the clean blocks before them, and themselves."""
    frames = latent.shape[2]
    seen = teacher_forcing(frames, frames_per_block, wan.tokens_per_frame(latent))
    times = torch.cat([torch.zeros_like(timesteps), timesteps], 1)
    positions = torch.arange(frames).repeat(2)
    return wan(torch.cat([clean, latent], 2), times, text, seen, positions)[:, :, frames:]


def _sigmas(timesteps: torch.Tensor, shift: float | None = None) -> torch.Tensor:
    """[B, F] -> [B, 1, F, 1, 1]."""
    config = facts("self_forcing")["config"]
    table = NoiseTable(config["timestep_shift"] if shift is None else shift)
    return torch.from_numpy(table.sigma_at(timesteps.numpy()))[:, None, :, None, None]


@torch.inference_mode()
def test_bidirectional_score_networks_equal_the_release() -> None:
    """Batched clips without mask or cache: what distillation scores with."""
    about = facts("dmd")
    data = {key: torch.from_numpy(array) for key, array in arrays("dmd", "dmd").items()}
    build = {
        name: load_checkpoint(
            CausalWan(wan_config(about["config"])),
            rolling_file("dmd", f"{name}_score.safetensors"),
            rename=wan_key,
        )
        for name in ("fake", "real")
    }
    predictions = {"fake_x0": "cond", "real_x0_cond": "cond", "real_x0_uncond": "uncond"}
    for case in (c["case"] for c in about["cases"]):
        noisy, t = data[f"{case}.noisy"].transpose(1, 2), data[f"{case}.timestep"]
        for name, text in predictions.items():
            velocity = build[name[:4]](noisy, t, data[text])
            x0 = noisy - _sigmas(t, about["score_scheduler_shift"]) * velocity
            assert max_abs(x0.transpose(1, 2), data[f"{case}.{name}"]) <= TOLERANCE, (case, name)
