"""What is counted is what the networks do."""

import dataclasses
from pathlib import Path

import onnx
import pytest
import torch

from benchmarks.planner.work import avatar_work, counted, transformer_pass
from export.checks.estimate import step_flop
from networks.causal_wan import CausalWan
from networks.graph_inputs import window_inputs
from networks.presets import PRESETS
from networks.rolling_presets import ROLLING_PRESETS
from networks.wan_stream import WanWindow

DEMO = PRESETS["demo"]
STEP = Path(__file__).parents[4] / "artifacts" / "demo" / "dit_step.onnx"


def test_the_memory_table_counts_a_step_alike() -> None:
    """`make gpu-plan` has a formula of its own; the planner would contradict it."""
    assert avatar_work(DEMO).step.flop == pytest.approx(step_flop(DEMO), rel=0.01)


def test_the_graph_that_is_served_has_the_counted_products() -> None:
    """Every matrix of dit_step.onnx, times the rows that meet it; and its attentions."""
    c, graph = DEMO.pipeline, onnx.load(STEP, load_external_data=False).graph
    heard = {"k": c.num_audio_tokens + 1, "v": c.num_audio_tokens + 1, "linear": 1}

    def rows(name: str) -> int:
        of_sound = heard.get(name.split(".")[-2]) if name.startswith("audio_injector") else None
        return c.tokens_per_block if of_sound is None else c.frames_per_block * of_sound

    matrices = {i.name: list(i.dims) for i in graph.initializer if len(i.dims) == 2}
    matrices = {name: size for name, size in matrices.items() if name.endswith("weight")}
    products = sum(2 * rows(name) * a * b for name, (a, b) in matrices.items())
    assert avatar_work(DEMO).step.linear == products
    attentions = sum(node.op_type == "Attention" for node in graph.node)
    assert attentions == 2 * DEMO.dit.num_layers + len(DEMO.dit.inject_layers)


def test_a_first_step_sees_less_and_a_prefill_the_sink_alone() -> None:
    c, work = DEMO.pipeline, avatar_work(DEMO)
    assert work.first_step.linear == work.step.linear
    unseen = (c.window_blocks - 1) * c.tokens_per_block
    saved = 4 * c.tokens_per_block * c.num_heads * c.head_dim * c.num_layers * unseen
    assert work.step.attention - work.first_step.attention == saved
    assert work.prefill.activations / work.step.activations == pytest.approx(
        c.num_sink_tokens / c.tokens_per_block
    )


def test_the_formula_of_a_pass_equals_the_counted_network() -> None:
    """It stands for transformers whose graphs are not ours."""
    preset = ROLLING_PRESETS["rolling-demo"]
    config, wan = preset.stream, preset.wan
    with torch.device("meta"), torch.no_grad():
        module = WanWindow(CausalWan(wan), config.frames_per_block)
        found = counted(module, window_inputs(config, num_blocks=5, num_history=2))
    queries, keys = 5 * config.tokens_per_block, 7 * config.tokens_per_block
    formula = transformer_pass(wan, queries, keys)
    assert found.attention == formula.attention
    # Patches in and out of the transformer are no part of the formula.
    assert found.linear + found.convolution == pytest.approx(formula.linear, rel=0.02)


def test_work_adds_up() -> None:
    work = avatar_work(DEMO).step
    assert dataclasses.asdict(work + work) == dataclasses.asdict(work * 2)
