"""What a deployment may choose and the release cannot: any size, other schedules, one device."""

from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from export import to_onnx
from export.checks.estimate import sizes_of
from export.checks.verify import compare, onnx_runtime
from export.graphs import dit as dit_graphs
from export.graphs.onnx_file import export_graph
from export.presets import deployed, preset_named
from networks.checkpoint import save_checkpoint
from networks.graph_inputs import step_inputs
from networks.presets import PRESETS
from pipeline.avatar.executor import AvatarExecutor
from pipeline.avatar.local import local_executor
from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.avatar.request import AvatarRequest, Options
from pipeline.avatar.rope_tables import RopeTables
from pipeline.avatar.sink_cache import SinkCache
from pipeline.config.avatar import PipelineConfig
from pipeline.denoising.schedule import Schedule
from tests.support.artifacts import DEMO, demo_with
from tests.support.fake_executor import FakeReply
from tests.support.served_dit import random_dit, tiny_preset

RELEASE_SINK_TOKENS = 3000
"""Rows of the release's sink cache, whatever the size; it crashes on more."""


def test_the_sink_is_as_large_as_the_size_wants() -> None:
    """The release ends with a shape error above 307,000 pixels."""
    preset = preset_named("14b", "832x448")
    config = preset.pipeline
    assert config.num_sink_tokens == 3640 > RELEASE_SINK_TOKENS
    assert config.cache_len == 3640 + 4 * 3 * 1456
    assert step_inputs(config)["cache_k_39"] == (1, 40, config.cache_len, 128)
    assert RopeTables(config).sink_tables()[0].shape == (1, 3640, 64)
    assert RopeTables(config).cos_k.shape == (1, config.cache_len, 64)
    plan = SinkCache(config).plan(7, 30)
    assert plan.write_index == 3640 + 3 * 3 * 1456
    assert plan.valid_tokens == config.cache_len
    fixed, larger = (sizes_of(p, "bf16")["dit_step"] for p in (PRESETS["14b"], preset))
    assert larger.weights == fixed.weights
    assert larger.state / fixed.state == pytest.approx(1456 / 1056)


def test_graphs_of_another_size_equal_pytorch(tmp_path: Path) -> None:
    """A grid, a sink or a cache that is sized for the preset alone."""
    preset = deployed(tiny_preset(), height=64, width=128)
    save_checkpoint(random_dit(preset.dit), tmp_path / dit_graphs.WEIGHTS)
    for graph in dit_graphs.graphs(preset, tmp_path):
        export_graph(graph, tmp_path)
        found = compare(graph, onnx_runtime(tmp_path), preset)
        assert [each for each in found if not each.fits] == []


@pytest.mark.parametrize("size", ["832", "830x448", "0x64"])
def test_a_size_that_is_none_is_refused(size: str) -> None:
    """The motion's coarsest bucket would lose its last rows."""
    with pytest.raises(typer.BadParameter, match="wanted"):
        preset_named("14b", size)


def play(executor: AvatarExecutor, num_blocks: int, **options: object) -> list[np.ndarray]:
    """Latents of a stream of features."""
    c, rng = executor.config, np.random.default_rng(0)
    frames = num_blocks * c.video_frames_per_block
    request = AvatarRequest(
        session=1,
        start=True,
        end=True,
        image=np.full((64, 64, 3), 90, np.uint8),
        options=Options(**{"sink_distance": c.sink_distance, **options}),
        audio_features=rng.standard_normal((1, c.audio_layers, c.audio_dim, frames), np.float32),
    )
    avatar, reply = AvatarOrchestrator(c, executor, max_sessions=1, idle_timeout_s=60), FakeReply()
    try:
        avatar.submit(request, reply)
        assert reply.wait(120) == ""
    finally:
        avatar.stop()
        executor.stop()
    return [block.latent for block in reply.blocks]


def test_three_steps_run_on_three_stages(tmp_path: Path) -> None:
    """The release's announced model for four GPUs: another schedule on the same graphs."""
    folder = demo_with(tmp_path / "three", num_steps=3)
    executor = local_executor(folder)
    assert executor.num_stages == 3
    latents = play(executor, 2)
    sigmas = Schedule(3).sigmas
    stages = [executor.calls.holders[name].device for name in executor.stages]
    dsigmas = [float(each.constants[n].dsigma[0]) for each in stages for n in each.steps]
    np.testing.assert_array_equal(dsigmas, np.diff(sigmas))
    four = play(local_executor(DEMO), 2)
    assert not np.allclose(latents[1], four[1])
    np.testing.assert_array_equal(latents[1], play(local_executor(folder, [[0, 1, 2]]), 2)[1])


@pytest.mark.slow
def test_graphs_do_not_depend_on_the_number_of_steps(tmp_path: Path) -> None:
    """Another schedule would need another export and other plans."""
    app = typer.Typer()
    app.command()(to_onnx.main)
    command = f"--preset demo --weights {DEMO} --out {tmp_path} --component dit --num-steps 3"
    result = CliRunner().invoke(app, command.split())
    assert result.exit_code == 0, result.output
    assert PipelineConfig.load(tmp_path / "pipeline.json").num_steps == 3
    for name in ("dit_step.onnx", "timesteps.safetensors"):
        assert (tmp_path / name).read_bytes() == (DEMO / name).read_bytes()


def test_one_device_refreshes_its_sink_in_latent_space() -> None:
    """All steps on one device: the first generated latent goes into the sink as it is, where the
    release decodes a clip and encodes 365 frames anew; before that nothing differs."""
    block = PipelineConfig.load(DEMO / "pipeline.json").recalibrate_block
    one_device = [list(range(4))]
    fresh = play(local_executor(DEMO, one_device), block + 2)
    stale = play(local_executor(DEMO, one_device), block + 2, recalibrate=False)
    for b in range(block):
        np.testing.assert_array_equal(fresh[b], stale[b])
    assert np.abs(fresh[block] - stale[block]).max() > 1e-3
