"""Roll-outs with gradients against the release's, and which blocks they supervise."""

import functools
import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from networks.causal_wan import CausalWan
from tests.golden.fixtures import GOLDEN_ROOT, max_abs
from tests.golden.presets import golden_rolling_preset
from train.rolling.rollout import (
    GRADIENT_BLOCKS,
    CachedWan,
    exit_interval,
    rolling_forcing,
    self_forcing,
    supervised,
)

ROLLOUT = GOLDEN_ROOT / "rolling_forcing" / "train_rollout"
needs_fixtures = pytest.mark.skipif(
    not (ROLLOUT / "config.json").is_file(), reason=f"no fixtures at {ROLLOUT}; set GOLDEN_ROOT"
)
MANIFEST = (
    json.loads((ROLLOUT / "config.json").read_text())
    if (ROLLOUT / "config.json").is_file()
    else {"cases": []}
)


def cases(mode: str = "") -> Any:
    chosen = [case for case in MANIFEST["cases"] if mode in case["mode"]]
    return pytest.mark.parametrize("case", chosen, ids=lambda case: case["case"])


OUTPUT, GRADIENT = 2e-5, 1e-3
"""The README's: absolute; relative to the tensor's largest value."""


@functools.cache
def data() -> dict[str, Tensor]:
    return load_file(ROLLOUT / "rollout.safetensors")


def stream_config(mode: str) -> Any:
    schedule = "diagonal" if mode == "rolling" else "sequential"
    return golden_rolling_preset(MANIFEST["config"], schedule=schedule).stream


def latents(x: Tensor) -> Tensor:
    """Between the fixtures' [B, F, C, h, w] and [B, C, F, h, w]."""
    return x.transpose(1, 2)


@functools.cache
def rolled_out(name: str) -> tuple[Tensor, dict[str, Tensor], float]:
    """Output, gradients of mean(output * weight) by parameter, and that loss."""
    (case,) = (case for case in MANIFEST["cases"] if case["case"] == name)
    of = {k.removeprefix(f"{name}."): v for k, v in data().items() if k.startswith(f"{name}.")}
    preset = golden_rolling_preset(MANIFEST["config"])
    wan, stream = CausalWan(preset.wan), stream_config(case["mode"])
    state = load_file(ROLLOUT / "weights.safetensors")
    wan.load_state_dict({k.removeprefix("model."): v for k, v in state.items()})
    generator = CachedWan(wan, of["prompt_embeds"], stream.frames_per_block)
    noise, exit_flag = latents(of["noise"]), case["exit_flag"]
    draws = of["renoise" if case["mode"] == "rolling" else "draws"]
    if case["mode"] == "rolling":
        output = rolling_forcing(
            generator, stream, noise, exit_flag, lambda b, i: latents(draws[b, i]),
            zero_unsupervised=True,
        )  # fmt: skip
    else:
        output = self_forcing(
            generator, stream, noise, exit_flag, lambda b, i: latents(draws[b, i])
        )
    loss = (output * latents(of["loss_weight"])).mean()
    loss.backward()
    gradients = {n: p.grad for n, p in wan.named_parameters() if p.grad is not None}
    return output.detach(), gradients, loss.item()


@needs_fixtures
@cases()
def test_a_roll_out_gives_the_releases_predictions(case: dict[str, Any]) -> None:
    """Levels, history, re-noising or the stored K/V would be others than the release's."""
    output, _, loss = rolled_out(case["case"])
    assert max_abs(output, latents(data()[f"{case['case']}.output"])) <= OUTPUT
    # A mean of products of size 1 with errors of 2e-5.
    assert loss == pytest.approx(float(data()[f"{case['case']}.loss"]), abs=OUTPUT)


@needs_fixtures
@cases()
def test_gradients_equal_the_releases_with_a_constant_cache(case: dict[str, Any]) -> None:
    """Gradients would flow through the history, or miss a block."""
    _, gradients, _ = rolled_out(case["case"])
    prefix = f"{case['case']}.grad_detached.model."
    names = [k.removeprefix(prefix) for k in data() if k.startswith(prefix)]
    assert names
    for name in names:
        wanted = data()[prefix + name]
        largest = float(wanted.abs().max())
        assert max_abs(gradients[name], wanted) <= GRADIENT * largest, name


@needs_fixtures
@cases("rolling")
def test_blocks_before_the_supervised_windows_stay_zero_as_in_the_release(
    case: dict[str, Any],
) -> None:
    """Rolling roll-outs longer than 21 frames would supervise blocks that score networks drop."""
    output, _, _ = rolled_out(case["case"])
    zero = ~latents(data()[f"{case['case']}.output"]).any(1)[0].flatten(1).any(1)
    assert (~output.any(1)[0].flatten(1).any(1)).equal(zero)
    if case["num_blocks"] <= GRADIENT_BLOCKS:
        assert not zero.any()


@needs_fixtures
@cases("self")
def test_an_exit_lies_between_the_releases_levels(case: dict[str, Any]) -> None:
    """Timestep-limited distribution matching would draw from another interval."""
    interval = exit_interval(stream_config("self"), case["exit_flag"])
    assert interval == (case["denoised_timestep_from"], case["denoised_timestep_to"])


@pytest.mark.parametrize("num_levels", [1, 2, 4, 5, 6])
@pytest.mark.parametrize("num_blocks", [5, GRADIENT_BLOCKS, 9, 12])
def test_every_block_is_supervised_once_at_most_and_exactly_once_in_21_frames(
    num_blocks: int, num_levels: int
) -> None:
    """A block would be overwritten by a later window, or never be trained."""
    for offset in range(num_levels):
        ticks = range(num_blocks + num_levels - 1)
        windows = {t: supervised(num_blocks, num_levels, offset, t) for t in ticks}
        written = [b for window in windows.values() for b in window]
        assert written == sorted(set(written))
        first = max(0, num_blocks - GRADIENT_BLOCKS)
        assert set(range(first, num_blocks)) <= set(written)
        for tick, window in windows.items():
            assert all((offset - b) % num_levels == tick - b for b in window)


class Affine:
    """A generator of one number: its velocity is `slope` * latent + the mean of its history."""

    def __init__(self) -> None:
        self.slope = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        self.kept: dict[int, Tensor] = {}
        self.differentiated: list[range] = []

    def velocity(self, plan: Any, latents: Tensor, timesteps: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            self.differentiated.append(plan.blocks)
        seen = [self.kept[key.block].mean() for key in plan.history]
        return self.slope * latents + sum(seen, torch.zeros(()))

    def store(self, plan: Any, clean: Tensor, timestep: float) -> None:
        assert not clean.requires_grad, "the history carries gradients"
        self.kept[plan.blocks.start] = clean


def toy_config(schedule: str) -> Any:
    from pipeline.config.rolling import RollingConfig

    return RollingConfig(
        preset="toy", height=16, width=16, num_layers=1, num_heads=1, head_dim=6, text_len=1,
        text_dim=1, schedule=schedule,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["rolling", "self"])
def test_a_long_roll_out_differentiates_its_last_21_frames_only(mode: str) -> None:
    """Memory would grow with the length, and early blocks would be pushed without a score."""
    config, torch_seed = toy_config("diagonal" if mode == "rolling" else "sequential"), 3
    generator = Affine()
    random = torch.Generator().manual_seed(torch_seed)
    noise = torch.randn(1, 1, 9 * 3, 2, 2, generator=random, dtype=torch.float64)

    def draw(block: int, number: int) -> Tensor:
        return torch.randn(1, 1, 3, 2, 2, generator=random, dtype=torch.float64)

    run = rolling_forcing if mode == "rolling" else self_forcing
    output = run(generator, config, noise, 1, draw)
    assert output.any(1)[0].flatten(1).all(1).all(), "a block without a prediction"
    output.sum().backward()
    assert torch.isfinite(generator.slope.grad)
    blocks = [b for window in generator.differentiated for b in window]
    assert blocks == sorted(set(blocks))
    assert set(blocks) >= set(range(2, 9))
    assert 0 not in blocks


@pytest.mark.parametrize(("run", "schedule"), [(rolling_forcing, "sequential"),
                                               (self_forcing, "diagonal")])  # fmt: skip
def test_a_roll_out_refuses_the_other_ones_schedule(run: Any, schedule: str) -> None:
    """Windows and exits would mean something else."""
    with pytest.raises(ValueError, match="schedule"):
        run(Affine(), toy_config(schedule), torch.zeros(1, 1, 3, 2, 2), 0, lambda b, i: None)
