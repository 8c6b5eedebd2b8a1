"""The memory that docs/deploy.md tells, against the shapes it comes from."""

import dataclasses
import math
import re
from pathlib import Path

import pytest

from export.checks.estimate import SUSTAINED, memory_of, sizes_of, step_flop
from export.engines.build import STREAMED
from export.repository.catalogue import AVATAR
from export.repository.memory import avatar_memory, rolling_memory
from export.repository.placement import place
from networks.graph_inputs import step_inputs, window_inputs
from networks.presets import PRESETS
from networks.rolling_presets import ROLLING_PRESETS
from pipeline.config.avatar import PipelineConfig
from pipeline.config.rolling import RollingConfig

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs" / "deploy.md").read_text()
NARROW, WIDE = 2, 4
"""Bytes of a number in bfloat16 and in float32."""


def section(title: str) -> str:
    """The text under a heading, in one line."""
    text = GUIDE.split(f"# {title}\n", 1)[1]
    return re.sub(r"\s+", " ", re.split(r"\n#+ ", text, maxsplit=1)[0])


def elements(shapes: dict[str, tuple[int, ...]], prefix: str) -> int:
    return sum(math.prod(shape) for name, shape in shapes.items() if name.startswith(prefix))


def per_token(config: PipelineConfig | RollingConfig, width: int) -> int:
    """Bytes of K and V of a cached token, all layers."""
    return config.num_layers * 2 * config.num_heads * config.head_dim * width


DEMO = PipelineConfig.load(ROOT / "artifacts" / "demo" / "pipeline.json")


@pytest.mark.parametrize(
    ("config", "width", "unit", "digits"),
    [(PRESETS["14b"].pipeline, NARROW, 1e9, (1, 2)), (DEMO, WIDE, 1e6, (1, 1))],
    ids=["14b", "demo"],
)
def test_a_sessions_memory_is_what_its_shapes_take(
    config: PipelineConfig, width: int, unit: float, digits: tuple[int, int]
) -> None:
    """Someone would rent GPUs that are too small: the demo's figure was once a third of it."""
    name, shapes = "GB" if unit == 1e9 else "MB", step_inputs(config)
    tokens, each = config.cache_len, per_token(config, width)
    assert elements(shapes, "cache_") * width == tokens * each
    cache, text = (
        f"{elements(shapes, prefix) * width / unit:.{count}f} {name}"
        for prefix, count in zip(("cache_", "text_"), digits, strict=True)
    )
    told = section("Memory of a session")
    assert f"{tokens:,} cache tokens × {each:,} bytes = {cache}" in told
    assert f"{text} of text K/V" in told
    sides = (config.width, config.height), (config.height, config.width)
    assert any(f"{a}×{b}" in told for a, b in sides)


def row(label: str) -> list[str]:
    """A row of the table of text-to-video sessions: `rolling-1.3b` and `rolling-demo`."""
    (line,) = (each for each in GUIDE.splitlines() if each.startswith(f"| {label}"))
    return [cell.strip(" *") for cell in line.strip("|").split("|")[1:]]


def test_a_text_to_video_sessions_memory_is_what_its_shapes_take() -> None:
    """The same for the other tenant."""
    large, small = (ROLLING_PRESETS[f"rolling-{name}"].stream for name in ("1.3b", "demo"))
    slots = [f"{c.cache_blocks} × {c.tokens_per_block:,}" for c in (large, small)]
    assert row("KV cache") == slots
    cache = [c.cache_len * per_token(c, NARROW) for c in (large, small)]
    assert row("in bf16")[0] == f"{cache[0] / 1e9:.2f} GB** ({cache[0] / 2**30:.2f} GiB)"
    assert row("in float32")[0] == f"{2 * cache[0] / 1e9:.1f} GB"
    assert row("in float32")[1] == f"{2 * cache[1] / 1e6:.1f} MB"
    text = [elements(window_inputs(c, 1, 0), "text_") * NARROW for c in (large, small)]
    assert row("text K/V") == [
        f"{text[0] / 1e6:.0f} / {2 * text[0] / 1e6:.0f} MB",
        f"– / {2 * text[1] / 1e6:.0f} MB",
    ]


def test_what_gpu_plan_says_of_text_to_video_stands_in_the_guide() -> None:
    """Weights or decoder state would have been told before they grew."""
    (line,) = (s for s in GUIDE.splitlines() if s.startswith("`make gpu-plan PRESET=rolling-1.3b`"))
    preset = ROLLING_PRESETS["rolling-1.3b"]
    found = rolling_memory(preset.stream, sizes_of(preset, "bf16"), int(80e9))
    assert f"{found.weights / 1e9:.1f} GB of weights" in line
    assert f"{found.caches / 1e9:.1f} GB of K/V" in line
    assert f"{found.vae_state / 1e9:.1f} GB of decoder state" in line
    assert row("decoder state")[0] == (
        f"{found.vae_state / 1e9:.1f} / {2 * found.vae_state / 1e9:.1f} GB"
    )


@pytest.mark.parametrize("streams", ["", ", `--stream-weights`"])
@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_the_table_of_14b_says_what_gpu_plan_prints(precision: str, streams: str) -> None:
    """The number of GPUs to rent is read off this table."""
    (line,) = (s for s in GUIDE.splitlines() if s.startswith(f"| {precision}{streams} | "))
    first, second, *sessions = (cell.strip() for cell in line.strip("|").split("|")[1:])
    sizes, steps = sizes_of(PRESETS["14b"], precision), PRESETS["14b"].pipeline.num_steps
    if streams:
        sizes |= {name: dataclasses.replace(sizes[name], weights=0) for name in STREAMED}
    tables = {n: avatar_memory(place(steps, n), sizes, int(80e9)) for n in range(5, 0, -1)}
    assert second == f"{tables[5][0].caches / 1e9:.1f} GB"
    assert first == f"{tables[5][0].weights / 1e9:.1f} GB"
    assert sessions == [str(min(row.sessions for row in rows)) for rows in tables.values()]


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_the_table_of_14b_says_how_many_sessions_are_in_real_time(precision: str) -> None:
    """Memory alone would promise three talks where a GPU computes one."""
    (line,) = (s for s in GUIDE.splitlines() if s.startswith(f"| in real time, {precision} |"))
    preset, flops = PRESETS["14b"], 1e12 * SUSTAINED[precision]
    tables = [
        memory_of(preset, sizes_of(preset, precision), n, int(80e9), flops) for n in range(5, 0, -1)
    ]
    found = [str(min(row.sessions_in_time or 0 for row in rows)) for rows in tables]
    assert [cell.strip() for cell in line.strip("|").split("|")[3:]] == found


def test_a_step_of_14b_holds_its_weights_once() -> None:
    """Step and prefill had 24 GB each of the same weights; mask and prefill are no operations."""
    preset = PRESETS["14b"]
    c, d, sizes = preset.pipeline, preset.dit, sizes_of(preset, "bf16")
    attention, text_kv, ffn = 4 * d.dim**2, 2 * d.dim**2, 2 * d.dim * d.ffn_dim
    layers = d.num_layers * (2 * attention - text_kv + ffn)
    assert sizes["dit_step"].weights == pytest.approx(2 * layers, rel=0.17)  # and 12 injectors
    assert 27.5e9 < sizes["dit_step"].weights < 28e9
    assert sizes["dit_embed"].weights + sizes["dit_sink"].weights < 0.2e9
    row = avatar_memory(place(c.num_steps, 5), sizes, int(80e9))[0]
    assert row.weights == sum(sizes[name].weights for name in AVATAR.denoiser.graphs)
    assert row.sessions == 3
    assert step_flop(preset) == pytest.approx(121e12, rel=0.01)


@pytest.mark.parametrize("preset", ["rolling-1.3b", "rolling-demo"])
def test_the_estimate_has_a_size_for_every_plan(preset: str) -> None:
    """`make gpu-plan` before anything is built; K/V of 1.3B are 7 GB per stream."""
    chosen = ROLLING_PRESETS[preset]
    c = chosen.stream
    row = rolling_memory(c, sizes_of(chosen, "bf16"), 80_000_000_000)
    per_token = 2 * c.num_layers * c.num_heads * c.head_dim * 2
    assert row.caches == (c.cache_len + c.text_len) * per_token
    assert row.sessions * row.per_session + row.fixed <= row.capacity
    with pytest.raises(ValueError, match="precision is 'fp8'"):
        sizes_of(chosen, "fp8")
