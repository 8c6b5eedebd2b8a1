"""A plan with two optimisation profiles on the stand-in GPU: the bound buffers choose one."""

from pathlib import Path

import numpy as np
import pytest

from export.engines.profiles import hull, ranges_of
from pipeline.config.avatar import PipelineConfig
from pipeline.engines.base import Arrays, Buffers
from pipeline.engines.gpu import DeviceBuffer, Gpu
from pipeline.engines.onnx import Engine
from pipeline.engines.tensorrt import TensorRTBinding, TensorRTEngine
from tests.support.fake_gpu import MACHINE, FakeCuda, FakeTensorRT, write_plan

torch = pytest.importorskip("torch")

DEMO = Path(__file__).parents[3] / "artifacts" / "demo"
CONFIG = PipelineConfig.load(DEMO / "pipeline.json")
STEP, FILL = ranges_of("dit_step", CONFIG)
FRAMES, TOKENS, SINK = CONFIG.frames_per_block, CONFIG.tokens_per_frame, CONFIG.num_sink_tokens
WIDTH, PAIRS = CONFIG.num_heads * CONFIG.head_dim, CONFIG.head_dim // 2


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from export.graphs.onnx_file import export_graph
    from tests.support.step_graph import step_graph

    return export_graph(step_graph(CONFIG, torch.float32), tmp_path_factory.mktemp("graph"))


@pytest.fixture
def engine(graph: Path, tmp_path: Path, cuda: FakeCuda) -> TensorRTEngine:
    profiles = [dict(STEP), dict(FILL)]
    plan = write_plan(graph, tmp_path, MACHINE, profiles=profiles)
    return TensorRTEngine(plan, Gpu(0, cuda, FakeTensorRT(cuda)))


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def tables(frames: int, tokens: int, keys: int, write_index: int) -> Arrays:
    """What is fed beside the tokens, which are bound."""
    q, k = random(frames, tokens, PAIRS), random(1, keys, PAIRS)
    index = np.array([write_index], np.int64)
    return {"cos_q": q, "sin_q": -q, "cos_k": k, "sin_k": -k, "write_index": index}


def bound(
    engine: TensorRTEngine, caches: Buffers, tokens: DeviceBuffer, velocity: np.ndarray
) -> TensorRTBinding:
    written = {name.replace("cache_", "present_"): b for name, b in caches.items()}
    return engine.bind({**caches, "tokens": tokens}, {**written, "velocity": velocity})


def test_a_plan_knows_what_its_profiles_hold(engine: TensorRTEngine) -> None:
    """The manifest has their hull alone, which holds shapes that are in none of them."""
    step, fill = (profile["tokens"] for profile in engine.profiles)
    assert step.smallest == step.largest == (FRAMES, TOKENS, WIDTH)
    assert fill.smallest == fill.largest == (1, SINK, WIDTH)
    assert engine.manifest.inputs["tokens"].largest == (FRAMES, SINK, WIDTH)
    assert engine.profiles[0]["cos_k"].largest[1] == hull([STEP, FILL])["keys"][2]


def test_one_engine_fills_the_sink_and_steps_as_onnx_runtime_does(
    engine: TensorRTEngine, graph: Path
) -> None:
    """Two bindings in turn on one set of caches, each in its profile; then the keys grow."""
    other = Engine(graph)
    caches, theirs = engine.new_buffers("cache_"), other.new_buffers("cache_")
    written = {name.replace("cache_", "present_"): b for name, b in theirs.items()}
    sizes = [(1, SINK, SINK, 0)]
    sizes += [(FRAMES, TOKENS, SINK + n * FRAMES * TOKENS, SINK) for n in (1, 2, 2)]
    bindings: dict[int, TensorRTBinding] = {}
    velocities = {frames: np.zeros((frames, tokens, 4), np.float32) for frames, tokens, *_ in sizes}
    buffers = {f: engine.allocate((f, n, WIDTH), "float32") for f, n, *_ in sizes}
    for number, (frames, tokens, keys, index) in enumerate(sizes):
        x = random(frames, tokens, WIDTH) + number
        engine.gpu.write(x, buffers[frames])
        if frames not in bindings:
            bindings[frames] = bound(engine, caches, buffers[frames], velocities[frames])
        fed = tables(frames, tokens, keys, index)
        assert bindings[frames].run(fed) == {}
        wanted = np.zeros_like(velocities[frames])
        other.bind(theirs, {**written, "velocity": wanted}).run({**fed, "tokens": x})
        np.testing.assert_array_equal(velocities[frames], wanted)
    calls = engine.gpu.cuda.calls
    assert [c for c in calls if "profile" in c] == [
        "set_optimization_profile_async 1",
        "set_optimization_profile_async 0",
    ]
    assert calls.count("set_input_shape tokens") == 2  # bound, so told once
    assert calls.count("cudaGraphLaunch") == 1


def test_buffers_that_are_in_no_profile_are_named(engine: TensorRTEngine) -> None:
    """TensorRT would say that a dimension is wrong, and not which buffer nor what would be right.

    The hull of both profiles holds this one.
    """
    tokens = engine.allocate((2, SINK, WIDTH), "float32")
    step, fill = f"[{FRAMES}, {TOKENS}, {WIDTH}]", f"[1, {SINK}, {WIDTH}]"
    with pytest.raises(ValueError, match="in no profile") as error:
        bound(engine, engine.new_buffers("cache_"), tokens, np.zeros((2, SINK, 4), np.float32))
    assert f"tokens is float32[2, {SINK}, {WIDTH}], wanted float32{step} or float32{fill}" in str(
        error.value
    )
    half = engine.allocate((1, SINK, WIDTH), "float16")
    with pytest.raises(ValueError, match="tokens is float16"):
        bound(engine, engine.new_buffers("cache_"), half, np.zeros((1, SINK, 4), np.float32))


def test_what_is_fed_must_be_in_the_profile_of_what_is_bound(engine: TensorRTEngine) -> None:
    """The step's tables are within the manifest's hull, and outside the sink's profile."""
    tokens, velocity = engine.allocate((1, SINK, WIDTH), "float32"), np.zeros((1, SINK, 4))
    binding = bound(engine, engine.new_buffers("cache_"), tokens, velocity.astype(np.float32))
    fed = tables(1, SINK, SINK + FRAMES * TOKENS, 0)
    with pytest.raises(ValueError, match=rf"dit_step.plan: cos_k .*wanted float32\[1, {SINK}, "):
        binding.run(fed)
    binding.run(tables(1, SINK, SINK, 0))  # and goes on


def test_an_output_of_open_size_needs_its_place(engine: TensorRTEngine) -> None:
    """Its owner knows the size; the largest of all profiles would be copied at every run."""
    caches, tokens = engine.new_buffers("cache_"), engine.allocate((1, SINK, WIDTH), "float32")
    written = {name.replace("cache_", "present_"): b for name, b in caches.items()}
    with pytest.raises(ValueError, match="velocity has no fixed size"):
        engine.bind({**caches, "tokens": tokens}, written)


def test_an_output_of_another_size_than_its_memory_is_refused(engine: TensorRTEngine) -> None:
    """TensorRT knows addresses, not sizes: it would write beyond the end."""
    tokens = engine.allocate((FRAMES, TOKENS, WIDTH), "float32")
    small = np.zeros((1, TOKENS, 4), np.float32)
    binding = bound(engine, engine.new_buffers("cache_"), tokens, small)
    fed = tables(FRAMES, TOKENS, SINK + FRAMES * TOKENS, SINK)
    with pytest.raises(ValueError, match=rf"velocity comes out as \[{FRAMES}, .*bound to \[1, "):
        binding.run(fed)
    assert "execute_async_v3" not in engine.gpu.cuda.calls


def test_a_buffer_can_be_an_output_of_open_size(engine: TensorRTEngine) -> None:
    """The next graph on the device reads it there."""
    tokens = engine.allocate((1, SINK, WIDTH), "float32")
    velocity = engine.allocate((1, SINK, 4), "float32")
    engine.gpu.write(random(1, SINK, WIDTH), tokens)
    binding = bound(engine, engine.new_buffers("cache_"), tokens, velocity)
    assert binding.run(tables(1, SINK, SINK, 0)) == {}
    assert np.abs(engine.gpu.read(velocity)).max() > 0
    wrong = engine.allocate((FRAMES + 1, SINK, 4), "float32")
    with pytest.raises(ValueError, match=r"velocity is bound to float32.*wanted float32"):
        bound(engine, engine.new_buffers("cache_"), tokens, wrong)


def test_scratch_is_that_of_the_profile(
    engine: TensorRTEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest of all profiles is more than a small one needs."""
    sizes = [5000, 300]
    monkeypatch.setattr(
        type(engine.engine), "get_device_memory_size_for_profile_v2", lambda _, i: sizes[i]
    )
    tokens, velocity = engine.allocate((1, SINK, WIDTH), "float32"), np.zeros((1, SINK, 4))
    binding = bound(engine, engine.new_buffers("cache_"), tokens, velocity.astype(np.float32))
    assert binding._scratch.num_bytes == 300
