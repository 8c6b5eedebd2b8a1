"""Text-to-video streams on the stand-in GPU: windows whose number of frames varies."""

import gc
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.rolling import RollingConfig
from pipeline.engines.gpu import Gpu
from pipeline.engines.tensorrt import TensorRTEngine, plan_loader
from pipeline.rolling.decoder import RollingDecoder
from pipeline.rolling.device import GRAPHS, WindowDevice
from tests.support.fake_gpu import MACHINE, FakeCuda, FakeTensorRT, write_plan

pytestmark = pytest.mark.long

DEMO = Path(__file__).parents[3] / "artifacts" / "rolling-demo"
CONFIG = RollingConfig.load(DEMO / "rolling.json")


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plans")
    largest = {"frames": 24, "history": 7, "stored_blocks": 8}
    for name in (*GRAPHS, "vae_decoder_first", "vae_decoder"):
        write_plan(DEMO / f"{name}.onnx", folder, MACHINE, largest, {"history": 0})
    for name in ("rolling.json", "window_timesteps.safetensors"):
        shutil.copy(DEMO / name, folder)
    return folder


def device(plans: Path, cuda: FakeCuda) -> WindowDevice:
    return WindowDevice(plans, load_engine=plan_loader(0, cuda, FakeTensorRT(cuda)))


def text_of(seed: int) -> np.ndarray:
    shape = (1, CONFIG.text_len, CONFIG.text_dim)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def stream(window: WindowDevice, rules: str, num_blocks: int, switch: int) -> list[np.ndarray]:
    """A whole stream whose prompt changes at tick `switch`."""
    seed, name = np.array([5]), np.frombuffer(rules.encode(), np.uint8)
    window.open(7, text_of(0), seed, name)
    latents: list[np.ndarray] = []
    for tick in range(num_blocks + window.stages[rules].config.window_blocks - 1):
        text = text_of(1) if tick == switch else None
        done = window.step(7, tick, text, num_blocks=np.array([num_blocks]))
        latents += [] if done is None else [done.copy()]
    return latents


@pytest.mark.parametrize("rules", ["rolling_forcing", "rolling_recache", "longlive"])
def test_windows_on_plans_equal_windows_on_onnx_runtime(
    plans: Path, cuda: FakeCuda, rules: str
) -> None:
    """A stream grows from one block and no history to a full window, wraps its ring, changes its
    prompt and drains: every size of every graph."""
    wanted = stream(WindowDevice(DEMO), rules, 12, switch=9)
    found = stream(device(plans, cuda), rules, 12, switch=9)
    assert len(found) == 12
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_full_window_is_captured_once(plans: Path, cuda: FakeCuda) -> None:
    """An endless stream would capture, or allocate, for ever."""
    window = device(plans, cuda)
    window.open(7, text_of(0))
    for tick in range(16):  # until the history no longer grows
        window.step(7, tick)
    before = cuda.count()
    for tick in range(16, 20):
        window.step(7, tick)
    after = cuda.count()
    for call in ("cudaMalloc", "cudaMallocHost", "cudaFree", "cudaGraphInstantiate"):
        assert after[call] == before[call]
    assert after["cudaGraphLaunch"] - before["cudaGraphLaunch"] == 2 * 4  # clean pass and window


def test_a_closed_stream_gives_its_memory_back(plans: Path, cuda: FakeCuda) -> None:
    """A stream of the 1.3B preset holds gigabytes."""
    window = device(plans, cuda)
    gc.collect()
    before = (cuda.used, len(cuda.pinned), len(cuda.graphs))
    for _ in range(2):
        stream(window, "rolling_forcing", 7, switch=-1)
        window.close(7)
        gc.collect()
        held = (cuda.used - before[0], len(cuda.pinned) - before[1], len(cuda.graphs) - before[2])
        assert held == (4096, 0, 0)  # the contexts' common scratch memory


def test_a_decoder_on_plans_equals_one_on_onnx_runtime(plans: Path, cuda: FakeCuda) -> None:
    """The first block starts from nothing and leaves the state."""
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((4, *CONFIG.latent_shape)).astype(np.float32)
    load = plan_loader(0, cuda, FakeTensorRT(cuda))
    frames = []
    for decoder in (RollingDecoder(DEMO), RollingDecoder(plans, load_engine=load)):
        decoder.open(7)
        frames.append([decoder.step(7, i, latent).copy() for i, latent in enumerate(latents)])
    for one, other in zip(*frames, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_window_beyond_the_plan_is_refused(plans: Path, cuda: FakeCuda) -> None:
    """TensorRT would run it on memory that is too small."""
    engine = TensorRTEngine(plans / "dit_window.plan", Gpu(0, cuda, FakeTensorRT(cuda)))
    shape = list(engine.inputs["latent"][0])
    shape[2] = 27
    with pytest.raises(ValueError, match=r"latent is float32.*wanted float32.* to .*24"):
        engine.check("latent", np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match=r"what velocity is to fill is float32.*wanted float32"):
        engine.bind(
            engine.new_buffers("cache_", "text_"), {"velocity": np.zeros(shape, np.float32)}
        )
