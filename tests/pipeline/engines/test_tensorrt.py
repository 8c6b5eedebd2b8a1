"""The TensorRT engine on a stand-in GPU: addresses, aliases, order of calls, errors, release."""

import gc
import importlib.machinery
import shutil
import sys
import threading
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.engines.profiles import ranges_of
from pipeline.avatar.decoder import Decoder
from pipeline.avatar.stage import Stage
from pipeline.config.avatar import PipelineConfig
from pipeline.engines.gpu import Gpu, import_tensorrt
from pipeline.engines.host_arrays import from_bfloat16, to_bfloat16
from pipeline.engines.manifest import Manifest, TensorSpec, manifest_path
from pipeline.engines.memory import KeptMemory, MappedMemory
from pipeline.engines.onnx import Engine
from pipeline.engines.tensorrt import TensorRTBinding, TensorRTEngine, plan_loader
from tests.support.fake_gpu import MACHINE, FakeCuda, FakeTensorRT, write_plan

DEMO = Path(__file__).parents[3] / "artifacts" / "demo"
CONFIG = PipelineConfig.load(DEMO / "pipeline.json")
STEP, FILL = 0, 1
"""The profiles of `dit_step`."""


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plans")
    for name in ("dit_step", "dit_embed", "dit_sink", "dit_text", "vae_decoder"):
        profiles = [dict(ranges) for ranges in ranges_of(name, CONFIG)]
        write_plan(DEMO / f"{name}.onnx", folder, MACHINE, profiles=profiles)
    write_plan(DEMO / "vae_decoder_warmup.onnx", folder, MACHINE)
    for name in ("pipeline.json", "timesteps.safetensors"):
        shutil.copy(DEMO / name, folder)
    return folder


@pytest.fixture
def gpu(cuda: FakeCuda) -> Gpu:
    return Gpu(0, cuda, FakeTensorRT(cuda))


@pytest.fixture
def trunk(plans: Path, gpu: Gpu) -> TensorRTEngine:
    return TensorRTEngine(plans / "dit_step.plan", gpu)


def bound(engine: TensorRTEngine, written: dict[str, Any] | None = None) -> TensorRTBinding:
    """The trunk as it fills a sink; `written` are other buffers than the caches'."""
    cache, tokens = engine.new_buffers("cache_"), engine.profiles[FILL]["tokens"]
    written = written or {n.replace("cache_", "present_"): b for n, b in cache.items()}
    velocity = np.zeros((*tokens.largest[:2], engine.outputs["velocity"][0][-1]), np.float32)
    reads = {**cache, "tokens": engine.allocate(tokens.largest, tokens.dtype)}
    return engine.bind(reads, {**written, "velocity": velocity})


def feeds(engine: TensorRTEngine, profile: int = 1) -> dict[str, np.ndarray]:
    """What is not bound, at its smallest in a profile."""
    rng = np.random.default_rng(1)
    made = {
        name: rng.standard_normal(spec.smallest).astype(spec.dtype)
        for name, spec in engine.profiles[profile].items()
        if not name.startswith(("cache_", "tokens"))
    }
    return {**made, "write_index": np.zeros(1, np.int64)}


def stream(stage: Stage, num_blocks: int) -> list[np.ndarray]:
    """Latents of a session's first blocks."""
    c, rng = CONFIG, np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    size = (c.latent_channels, c.motion_frames, c.latent_height, c.latent_width)
    motion = random(1, *size)
    stage.open(7, motion, random(1, c.text_len, c.text_dim), motion[:, :, :1].copy())
    latents = []
    for block in range(num_blocks):
        audio = random(*c.audio_local_shape), random(*c.audio_global_shape)
        distance = np.full(c.num_steps, c.sink_position)
        latent = stage.step(7, block, random(*c.latent_shape), *audio, distance)
        latents.append(latent.copy())
    return latents


def test_a_stage_on_plans_equals_a_stage_on_onnx_runtime(plans: Path, cuda: FakeCuda) -> None:
    """Wrong bytes at a wrong address give a picture, and a wrong one. Six blocks: the keys grow in
    four of them, and then a step launches what it has captured."""
    load = plan_loader(0, cuda, FakeTensorRT(cuda))
    wanted = stream(Stage(DEMO, [0, 1]), 6)
    found = stream(Stage(plans, [0, 1], load_engine=load), 6)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    sessions, growing, blocks = ["dit_text", "dit_sink", "prefill"], 2 * 4, 2 * 6
    assert cuda.count()["cudaGraphInstantiate"] == len(sessions) + growing + len(["dit_embed"])
    assert cuda.count()["cudaGraphLaunch"] == (blocks - growing) + (blocks - len(["dit_embed"]))


def test_a_sink_goes_from_one_gpu_to_another(plans: Path) -> None:
    """What a pipeline on several GPUs saves is a prefill on each but the first."""

    def stage_of(gpu: FakeCuda) -> Stage:
        return Stage(plans, [0, 1], load_engine=plan_loader(0, gpu, FakeTensorRT(gpu)))

    first, second = stage_of(FakeCuda()), stage_of(FakeCuda())
    stream(first, 1)
    c, rng = CONFIG, np.random.default_rng(1)
    motion, text = first.sessions[7].motion, np.zeros((1, c.text_len, c.text_dim), np.float32)
    second.open(7, motion, text)
    shapes = c.latent_shape, c.audio_local_shape, c.audio_global_shape
    block = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    block.append(np.full(c.num_steps, c.sink_position))
    with pytest.raises(ValueError, match="session 7 has no sink"):
        second.step(7, 0, *block)
    second.step(7, 0, *block, sink=first.sink(7))
    gpus = [stage.trunk.gpu for stage in (first, second)]  # type: ignore[attr-defined]
    for step in range(2):
        caches = [stage.sessions[7].steps[step].cache for stage in (first, second)]
        for name in caches[0]:
            one, other = (gpu.read(cache[name]) for gpu, cache in zip(gpus, caches, strict=True))
            end = c.num_sink_tokens
            np.testing.assert_array_equal(one[:, :, :end], other[:, :, :end])
            assert one[:, :, :end].any()


def test_a_decoder_on_plans_equals_one_on_onnx_runtime(plans: Path, cuda: FakeCuda) -> None:
    """Two sets of state swap their roles from block to block."""
    c, rng = CONFIG, np.random.default_rng(0)
    size = (c.latent_channels, c.motion_frames, c.latent_height, c.latent_width)
    motion = rng.standard_normal((1, *size)).astype(np.float32)
    latents = rng.standard_normal((5, *c.latent_shape)).astype(np.float32)
    frames = []
    load = plan_loader(0, cuda, FakeTensorRT(cuda))
    for decoder in (Decoder(DEMO), Decoder(plans, load_engine=load)):
        decoder.open(7, motion)
        frames.append([decoder.step(7, i, latent).copy() for i, latent in enumerate(latents)])
    np.testing.assert_array_equal(frames[0], frames[1])


def test_a_closed_session_gives_its_memory_back(plans: Path, cuda: FakeCuda) -> None:
    """At 14B a session holds 13 GB: one leak, and the next session finds no place."""
    stage = Stage(plans, [0, 1], load_engine=plan_loader(0, cuda, FakeTensorRT(cuda)))
    stream(stage, 2)
    stage.close(7)
    gc.collect()
    before = (cuda.used, len(cuda.pinned), len(cuda.graphs))
    stream(stage, 2)
    assert cuda.used > before[0] + 2 * 4 * 2 * 475_136  # K and V of four layers, for two steps
    stage.close(7)
    assert (cuda.used, len(cuda.pinned), len(cuda.graphs)) == before


def test_nothing_is_allocated_while_blocks_are_denoised(plans: Path, cuda: FakeCuda) -> None:
    """An allocation waits for the whole device, and a captured graph holds fixed addresses."""
    stage = Stage(plans, [0], load_engine=plan_loader(0, cuda, FakeTensorRT(cuda)))
    stream(stage, 1)
    before = cuda.count()
    c = CONFIG
    audio = [np.zeros(s, np.float32) for s in (c.audio_local_shape, c.audio_global_shape)]
    for block in (1, 2, 3):
        latent = np.zeros(c.latent_shape, np.float32)
        stage.step(7, block, latent, *audio, np.full(c.num_steps, c.sink_position))
    after = cuda.count()
    for call in ("cudaMalloc", "cudaMallocHost", "cudaFree"):
        assert after[call] == before[call]
    addresses = [call for call in after if call.startswith("set_tensor_address")]
    assert all(after[call] == before[call] for call in addresses)


def test_a_cache_and_its_successor_have_one_address(trunk: TensorRTEngine) -> None:
    """A copy of 12 GB per block otherwise, or none and a cache that never fills."""
    context = bound(trunk)._context
    caches = [name for name in trunk.inputs if name.startswith("cache_")]
    assert caches
    for name in caches:
        assert context.addresses[name] == context.addresses[name.replace("cache_", "present_")]


def test_calls_come_in_order(plans: Path, gpu: Gpu, cuda: FakeCuda) -> None:
    """Inputs before the run, outputs after it, then the wait."""
    text = TensorRTEngine(plans / "dit_text.plan", gpu)
    binding, fed = text.bind({}, {}), {"text": np.zeros(text.inputs["text"][0], np.float32)}
    brought, fetched = ["cudaMemcpyAsync"] * len(fed), ["cudaMemcpyAsync"] * len(binding.outputs)
    assert fetched
    captured = [f"cudaGraph{what}" for what in ("Instantiate", "Destroy")]
    captured = ["cudaStreamBeginCapture", "execute_async_v3", "cudaStreamEndCapture", *captured]
    first = ["set_input_shape text", *brought, "execute_async_v3", *captured, "cudaGetLastError"]
    for started in (first, [*brought, "cudaGraphLaunch"]):
        cuda.calls.clear()
        binding.run(fed)
        assert cuda.calls == [*started, *fetched, "cudaStreamSynchronize"]


def test_a_new_shape_is_told_to_the_context_and_captured_anew(trunk: TensorRTEngine) -> None:
    """A captured graph would go on with the old shape."""
    cache, tokens = trunk.new_buffers("cache_", "text_"), trunk.profiles[STEP]["tokens"]
    written = {n.replace("cache_", "present_"): b for n, b in cache.items() if n[0] == "c"}
    written["velocity"] = trunk.allocate((*tokens.largest[:2], 16), "float32")
    reads = {**cache, "tokens": trunk.allocate(tokens.largest, tokens.dtype)}
    binding = trunk.bind(reads, written)
    inputs = {name: array for name, array in feeds(trunk, STEP).items() if name not in cache}
    seen = inputs["cos_k"].shape[1]
    for num_keys in (seen, seen, seen + 5):
        rows = np.zeros((1, num_keys, inputs["cos_k"].shape[2]), np.float32)
        binding.run({**inputs, "cos_k": rows, "sin_k": rows})
    calls = trunk.gpu.cuda.calls
    assert calls.count("set_input_shape cos_k") == 2
    assert calls.count("cudaGraphInstantiate") == 2
    assert calls.count("cudaGraphExecDestroy") == 1


def test_a_plan_that_does_not_write_in_place_is_refused(plans: Path, cuda: FakeCuda) -> None:
    """It would read a cache while it overwrites it."""
    trt = FakeTensorRT(cuda)
    trt.in_place = False
    engine = TensorRTEngine(plans / "dit_step.plan", Gpu(0, cuda, trt))
    with pytest.raises(ValueError, match="present_k_0 is written in place of None"):
        bound(engine)


def test_a_cache_bound_to_two_buffers_is_refused(trunk: TensorRTEngine) -> None:
    """What a block writes would be lost before the next one."""
    other = trunk.new_buffers("cache_")
    with pytest.raises(ValueError, match="in place of cache_k_0, but is bound to the buffer of No"):
        bound(trunk, {name.replace("cache_", "present_"): b for name, b in other.items()})


def test_too_little_memory_is_told_in_numbers(plans: Path) -> None:
    """An operator needs to know how much is missing."""
    cuda = FakeCuda(total_bytes=2_000_000)
    engine = TensorRTEngine(plans / "dit_step.plan", Gpu(0, cuda, FakeTensorRT(cuda)))
    with pytest.raises(RuntimeError, match=r"out of memory \(error 2\); wanted .* GB, .* of 0.002"):
        engine.new_buffers("cache_")


def test_caches_that_outlive_the_process_are_refused(trunk: TensorRTEngine) -> None:
    """A session would be opened in the memory of a GPU that nobody holds any more."""
    kept = KeptMemory()
    with pytest.raises(ValueError, match=r"lie on a device .* set replay_blocks"):
        trunk.buffers_in(MappedMemory(kept.name), "cache_")


def test_an_error_of_the_device_is_told_in_its_words(trunk: TensorRTEngine, cuda: FakeCuda) -> None:
    """A session that failed must not look like one that went well."""
    binding = bound(trunk)
    cuda.failing["cudaStreamSynchronize"] = 700
    with pytest.raises(RuntimeError, match=r"GPU 0: cudaStreamSynchronize failed: an illegal"):
        binding.run(feeds(trunk))


def test_a_refused_execution_is_an_error(trunk: TensorRTEngine, gpu: Gpu) -> None:
    """TensorRT says False, not more."""
    binding = bound(trunk)
    gpu.trt.refuses.add("execute_async_v3")
    with pytest.raises(RuntimeError, match=r"dit_step.plan: TensorRT failed"):
        binding.run(feeds(trunk))


def test_a_failed_capture_leaves_the_stream_usable(trunk: TensorRTEngine, gpu: Gpu) -> None:
    """A stream in capture mode refuses everything, for every session."""
    binding = bound(trunk)
    gpu.trt.during_capture = lambda: gpu.trt.refuses.add("execute_async_v3")
    binding.run(feeds(trunk))
    assert gpu.cuda.count()["cudaStreamEndCapture"] == 1
    assert gpu.cuda.recording is None


def test_wrong_inputs_are_named(trunk: TensorRTEngine) -> None:
    """The same words as ONNX Runtime's engine."""
    binding, right = bound(trunk), feeds(trunk)
    with pytest.raises(ValueError, match=r"dit_step.plan: cos_q is float32\[1, 2\], wanted fl"):
        binding.run({**right, "cos_q": np.zeros((1, 2), np.float32)})
    with pytest.raises(ValueError, match="sin_q is float64"):
        binding.run({**right, "sin_q": right["sin_q"].astype(np.float64)})
    del right["modulation"]
    with pytest.raises(ValueError, match=r"got inputs .* wanted .*'modulation'"):
        binding.run(right)


def test_every_thread_chooses_its_device(gpu: Gpu, cuda: FakeCuda) -> None:
    """A model loads on one thread and works on another, whose device would be GPU 0."""
    cuda.calls.clear()
    thread = threading.Thread(target=gpu.memory)
    thread.start()
    thread.join()
    gpu.memory()
    assert cuda.calls == ["cudaSetDevice", "cudaMemGetInfo", "cudaMemGetInfo"]


def test_a_plan_of_another_machine_is_refused_with_both_values(plans: Path, gpu: Gpu) -> None:
    """TensorRT's own words name a number, not what to do."""
    path = plans / "other.plan"
    shutil.copy(plans / "dit_step.plan", path)
    text = manifest_path(plans / "dit_step.plan").read_text()
    manifest_path(path).write_text(text.replace("11.0.0", "10.9.0").replace('"9.0"', '"12.0"'))
    words = r"compute_capability 12.0 \(here: 9.0\), tensorrt 10.9.0 \(here: 11.0.0\)"
    with pytest.raises(ValueError, match=words):
        TensorRTEngine(path, gpu)


def test_a_manifest_is_read_as_it_was_written(plans: Path, tmp_path: Path) -> None:
    """The server would compare with something else than the builder wrote."""
    manifest = Manifest.load(plans / "dit_step.manifest.json")
    manifest.save(tmp_path / "again.json")
    assert Manifest.load(tmp_path / "again.json") == manifest
    (tmp_path / "again.json").write_text("{}")
    with pytest.raises(ValueError, match="make engines"):
        Manifest.load(tmp_path / "again.json")


def test_a_missing_plan_or_manifest_says_how_to_make_it(gpu: Gpu, tmp_path: Path) -> None:
    """The traceback does not help an operator."""
    with pytest.raises(FileNotFoundError, match="make engines"):
        TensorRTEngine(tmp_path / "dit_step.plan", gpu)
    (tmp_path / "dit_step.plan").touch()
    with pytest.raises(FileNotFoundError, match="make engines"):
        TensorRTEngine(tmp_path / "dit_step.plan", gpu)


def test_without_the_libraries_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU configuration on a CPU would answer with the traceback of an import."""
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(RuntimeError, match=r"engine 'tensorrt' needs .*configs/cpu.pbtxt"):
        plan_loader(0)


def test_tensorrt_is_found_under_the_name_of_its_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image's wheel has `tensorrt_bindings`, and Polygraphy imports `tensorrt`."""
    wheel = types.ModuleType("tensorrt_bindings")
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.setitem(sys.modules, "tensorrt_bindings", wheel)
    try:
        assert import_tensorrt() is wheel
        assert importlib.import_module("tensorrt") is wheel
    finally:
        sys.modules.pop("tensorrt", None)
    installed = types.ModuleType("tensorrt")
    installed.__spec__ = importlib.machinery.ModuleSpec("tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt", installed)
    assert import_tensorrt() is installed


def test_bfloat16_is_rounded_to_even_and_back() -> None:
    """numpy has no such type; torch's conversion is the reference."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    numbers = (rng.standard_normal(4096) * 10.0 ** rng.integers(-30, 30, 4096)).astype(np.float32)
    special = np.array([0.0, -0.0, 1 + 2**-8, 1 + 3 * 2**-8, np.inf, -np.inf], np.float32)
    numbers = np.concatenate([numbers, special])
    wanted = torch.from_numpy(numbers).bfloat16()
    np.testing.assert_array_equal(to_bfloat16(numbers), wanted.view(torch.uint16).numpy())
    np.testing.assert_array_equal(from_bfloat16(to_bfloat16(numbers)), wanted.float().numpy())
    assert np.isnan(from_bfloat16(to_bfloat16(np.array([np.nan], np.float32)))).all()


def test_a_tensor_of_an_unknown_type_is_named() -> None:
    """Its size in memory would be a guess."""
    with pytest.raises(ValueError, match="float3"):
        TensorSpec(dtype="float3", smallest=(1,), largest=(1,))


def test_both_engines_answer_to_the_same_calls(trunk: TensorRTEngine) -> None:
    """A stage does not know which one it has."""
    other = Engine(DEMO / "dit_step.onnx")
    for name in ("new_buffers", "bind", "check", "inputs", "outputs", "path"):
        assert hasattr(trunk, name), name
        assert hasattr(other, name), name
