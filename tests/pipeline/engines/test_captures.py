"""CUDA graphs on the stand-in GPU: what is captured, what cannot be, what must not spoil it."""

import gc
import threading
from pathlib import Path

import numpy as np
import pytest

from pipeline.avatar.decoder import Decoder
from pipeline.engines.gpu import Gpu
from pipeline.engines.tensorrt import TensorRTBinding, TensorRTEngine, plan_loader
from tests.support.artifacts import DEMO
from tests.support.fake_gpu import MACHINE, FakeCuda, FakeTensorRT, write_plan

GRAPH = DEMO / "dit_text.onnx"


@pytest.fixture
def gpu(cuda: FakeCuda) -> Gpu:
    return Gpu(0, cuda, FakeTensorRT(cuda))


def engine_of(gpu: Gpu, folder: Path, *, streams_weights: bool = False) -> TensorRTEngine:
    return TensorRTEngine(write_plan(GRAPH, folder, MACHINE, streams_weights=streams_weights), gpu)


def run(binding: TensorRTBinding, seed: int = 0) -> dict[str, np.ndarray]:
    """Copies of what a binding of `dit_text` gives for some text."""
    shape = binding.engine.inputs["text"][0]
    text = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return {name: array.copy() for name, array in binding.run({"text": text}).items()}


def test_a_first_run_is_captured_for_those_that_follow(gpu: Gpu, tmp_path: Path) -> None:
    """Every kernel would be started one by one; new inputs must not give old outputs."""
    engine = engine_of(gpu, tmp_path)
    captured, plain = engine.bind({}, {}), engine.bind({}, {})
    plain._captures = False
    for seed in range(3):
        for name, array in run(captured, seed).items():
            np.testing.assert_array_equal(array, run(plain, seed)[name])
    assert gpu.cuda.count()["cudaGraphInstantiate"] == 1
    assert gpu.cuda.count()["cudaGraphLaunch"] == 2


def test_streamed_weights_are_never_captured(gpu: Gpu, tmp_path: Path) -> None:
    """They make a call wait for its copies: every session would fail when it re-calibrates."""
    engine = engine_of(gpu, tmp_path, streams_weights=True)
    binding = engine.bind({}, {})
    first = run(binding)
    for name, array in run(binding).items():
        np.testing.assert_array_equal(array, first[name])
    assert gpu.cuda.count()["cudaStreamBeginCapture"] == 0
    with pytest.raises(RuntimeError, match="weights are streamed"):  # the stand-in's own word
        gpu.capture(binding._execute)


def test_scratch_is_what_the_budget_of_streamed_weights_asks_for(gpu: Gpu, tmp_path: Path) -> None:
    """Less is wanted while all weights are on the GPU."""
    assert engine_of(gpu, tmp_path).bind({}, {})._scratch.num_bytes == 4096
    assert engine_of(gpu, tmp_path, streams_weights=True).bind({}, {})._scratch.num_bytes == 5120


def test_what_cannot_be_captured_runs_uncaptured(
    gpu: Gpu, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A plan that loads and fails at block 1 would be found out by a client."""
    binding = engine_of(gpu, tmp_path).bind({}, {})
    gpu.trt.during_capture = lambda: gpu.trt.refuses.add("execute_async_v3")
    first = run(binding)
    gpu.trt.refuses.clear()
    gpu.trt.during_capture = lambda: None
    for name, array in run(binding).items():
        np.testing.assert_array_equal(array, first[name])
    words = "dit_text.plan: TensorRT failed: execute_async_v3 is refused"
    assert f"dit_text.plan runs without a captured graph: {words}" in caplog.messages
    assert gpu.cuda.count()["cudaStreamBeginCapture"] == 1  # and is not tried again
    assert gpu.cuda.recording is None
    assert gpu.cuda.last_error == 0


def test_a_capture_that_cuda_refuses_is_told_in_its_words(
    gpu: Gpu, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The error also stays behind for whoever asks CUDA next, unless it is taken."""
    binding = engine_of(gpu, tmp_path).bind({}, {})
    gpu.trt.during_capture = gpu.cuda.spoil
    run(binding)
    assert "due to a previous error during capture (error 901)" in caplog.text
    assert gpu.cuda.last_error == 0
    run(binding)


def test_a_plan_that_cannot_be_captured_says_so_when_it_is_loaded(
    tmp_path: Path, cuda: FakeCuda, caplog: pytest.LogCaptureFixture
) -> None:
    """A server warms its models up, and a session is too late."""
    for name in ("vae_decoder", "vae_decoder_warmup"):
        write_plan(DEMO / f"{name}.onnx", tmp_path, MACHINE)
    (tmp_path / "pipeline.json").write_bytes((DEMO / "pipeline.json").read_bytes())
    trt = FakeTensorRT(cuda)
    trt.during_capture = cuda.spoil
    Decoder(tmp_path, load_engine=plan_loader(0, cuda, trt)).warm_up()
    assert "vae_decoder.plan runs without a captured graph" in caplog.text


@pytest.mark.parametrize("elsewhere", [False, True])
def test_memory_that_goes_in_a_capture_is_freed_after_it(
    gpu: Gpu, tmp_path: Path, caplog: pytest.LogCaptureFixture, elsewhere: bool
) -> None:
    """The garbage collector runs when it likes, on any thread; cudaFree spoils a capture."""
    binding = engine_of(gpu, tmp_path).bind({}, {})
    cuda, held = gpu.cuda, [gpu.allocate((1000,), "uint8"), gpu.allocate_pinned((10,), "uint8")]
    before, seen = (cuda.used, len(cuda.pinned)), []

    def collect() -> None:
        held.clear()
        gc.collect()
        seen.append((cuda.used, len(cuda.pinned)))

    def collect_elsewhere() -> None:
        thread = threading.Thread(target=collect)
        thread.start()
        thread.join()

    gpu.trt.during_capture = collect_elsewhere if elsewhere else collect
    run(binding)
    assert seen == [before]
    assert (cuda.used, len(cuda.pinned)) == (before[0] - 1000, before[1] - 1)
    assert binding._graph is not None
    assert not caplog.messages


def test_nothing_stays_when_all_is_gone(cuda: FakeCuda, tmp_path: Path) -> None:
    """A session that is closed while another one is captured would keep its gigabytes."""
    gpu = Gpu(0, cuda, FakeTensorRT(cuda))
    binding = engine_of(gpu, tmp_path).bind({}, {})
    gpu.trt.during_capture = gc.collect
    run(binding)
    del binding
    gc.collect()
    held = 4096  # the contexts' common scratch memory
    assert (cuda.used, len(cuda.pinned), len(cuda.graphs)) == (held, 0, 0)


def test_a_plan_that_tensorrt_cannot_load_is_told(gpu: Gpu, tmp_path: Path) -> None:
    """It returns None, and the next call would be one of None."""
    gpu.trt.refuses.add("deserialize")
    with pytest.raises(RuntimeError, match=r"dit_text.plan: TensorRT cannot load it: no reason"):
        engine_of(gpu, tmp_path)


def test_the_stand_in_refuses_what_the_libraries_refuse(gpu: Gpu, tmp_path: Path) -> None:
    """What it let pass would be found out on a GPU, by a session."""
    engine = engine_of(gpu, tmp_path)
    shape, strategy = engine.inputs["text"][0], "user"
    context = engine.engine.create_execution_context(strategy)
    assert not context.set_input_shape("text", shape)  # no profile yet
    assert not context.set_optimization_profile_async(1, 77)  # there is one
    assert context.set_optimization_profile_async(0, 77)
    assert not context.set_input_shape("text", (1, *shape))
    assert "text is outside its profile" in gpu.log.last
    binding = engine.bind({}, {})
    run(binding)
    binding._execute()
    assert not binding._context.set_optimization_profile_async(0, 77)  # at work
    gpu.wait()
    assert binding._context.set_optimization_profile_async(0, 77)
    assert binding._context.set_input_shape("text", shape)
    moved = gpu.allocate(shape, "float32")
    assert binding._context.set_tensor_address("text", moved.address)
    with pytest.raises(AssertionError, match="captured with other addresses"):
        run(binding)
    gpu.trt.during_capture = lambda: context.set_tensor_address("text", moved.address)
    with pytest.raises(AssertionError, match="None"):
        assert gpu.capture(binding._execute) is None
    for spoils in (
        lambda: gpu.allocate((1,), "uint8"),
        lambda: gpu._raw("cudaFree", moved.address),
        gpu.wait,
    ):
        gpu.trt.during_capture = spoils
        with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
            gpu.capture(binding._execute)
