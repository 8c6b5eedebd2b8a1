"""What we call of CUDA and TensorRT, held against the real bindings: no name is made up."""

import copy
import gc
import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.engines.packages import LOCK, PACKAGES, is_installed
from pipeline.engines.gpu import Gpu
from tests.support.bindings import (
    ROOT,
    Surface,
    cuda_names,
    importable_bindings,
    misfits,
    own_names,
    read_surface,
    sources,
    takes,
    uses,
)
from tests.support.fake_gpu import FakeContext, FakeCuda, FakeEngine, FakeTensorRT

pytestmark = pytest.mark.skipif(
    not is_installed(), reason="no bindings; python -m export.engines.packages"
)
GPU = (ROOT / "pipeline" / "engines" / "gpu.py").read_text()


@pytest.fixture(scope="module")
def bindings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return importable_bindings(tmp_path_factory.mktemp("bindings"))


@pytest.fixture(scope="module")
def surface(bindings: Path) -> Surface:
    return read_surface(bindings)


@pytest.fixture(scope="module")
def own() -> set[str]:
    return own_names()


@pytest.fixture
def real_cuda(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(PACKAGES))
    return importlib.import_module("cuda.bindings.runtime")


def test_every_use_of_tensorrt_is_in_its_bindings(surface: Surface, own: set[str]) -> None:
    """The first run on a GPU would find it out, after hours of building."""
    found = list(uses(sources(), own))
    assert misfits(found, surface) == []
    names = {(owner, use.name) for use in found for owner in use.owners}
    assert ("ICudaEngine", "get_tensor_profile_shape") in names
    assert ("IExecutionContext", "set_optimization_profile_async") in names
    assert ("IAttention", "decomposable") in names
    assert ("Runtime", "deserialize_cuda_engine") in names


@pytest.mark.parametrize(
    ("owner", "name", "instead", "words"),
    [
        ("IExecutionContext", "set_input_shape", None, "set_input_shape is no name of IExec"),
        ("IExecutionContext", "set_device_memory", [(1, 1)], "takes [[(1, 1)]], not 2 arguments"),
        ("ICudaEngine", "weight_streaming_budget_v2", False, "_budget_v2 cannot be set"),
        ("ICudaEngine", "num_io_tensors", None, "num_io_tensors is no name of ICudaEngine"),
        ("LayerType", "ATTENTION_OUTPUT", None, "ATTENTION_OUTPUT is no name of "),
        ("DataType", "BF16", None, "BF16 is no name of DataType"),
        ("IProgressMonitor", "step_complete", [(3, 3)], "step_complete takes"),
        ("", "IAttentionOutputLayer", None, "IAttentionOutputLayer is no name of the module"),
    ],
)
def test_a_binding_that_lacks_what_we_use_is_found_out(
    surface: Surface, own: set[str], owner: str, name: str, instead: Any, words: str
) -> None:
    """A check that passes whatever the bindings have is none."""
    changed = copy.deepcopy(surface)
    del changed[owner][name]
    if instead is not None:
        changed[owner][name] = instead
    wrong = misfits(list(uses(sources(), own)), changed)
    assert wrong
    assert all(words in text for text in wrong)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("self._context.set_input_shapes(name, shape)", "set_input_shapes is no name of IExecut"),
        ("plan.get_something_new()", "get_something_new is no name of anything"),
        ("engine.get_tensor_name()", "get_tensor_name takes [[(1, 1)]], not 0 arguments"),
        ("network.num_layers = 3", "num_layers cannot be set"),
        ("trt.Runtime()", "Runtime takes [[(1, 1)]], not 0 arguments"),
        ("kind.name == 'UINT3'", "UINT3 is no name of DataType"),
    ],
)
def test_a_new_use_cannot_be_forgotten(
    surface: Surface, own: set[str], code: str, words: str
) -> None:
    """Uses are read from the sources; a list by hand would lack the next one."""
    wrong = misfits(list(uses({"new.py": code}, own)), surface)
    assert len(wrong) == 1
    assert words in wrong[0]


def test_the_stand_in_has_nothing_that_tensorrt_lacks(surface: Surface) -> None:
    """Our code would pass its tests with a method that no GPU has."""
    for stand_in, owner in ((FakeEngine, "ICudaEngine"), (FakeContext, "IExecutionContext")):
        for name, value in vars(stand_in).items():
            if name.startswith("_"):
                continue
            kind = surface[owner][name]
            if inspect.isfunction(value):
                count = len(inspect.signature(value).parameters) - 1
                assert takes(kind, count), name
            else:
                assert isinstance(kind, bool), name


def test_the_names_of_cuda_are_in_its_bindings(real_cuda: Any) -> None:
    """Functions, enumerations and their members, as attributes and in strings."""
    members = (real_cuda.cudaMemcpyKind, real_cuda.cudaStreamCaptureMode)
    known = {*dir(real_cuda), *(name for each in members for name in dir(each))}
    assert len(cuda_names(GPU)) > 20
    assert cuda_names(GPU) <= known
    assert cuda_names(GPU.replace("cudaMalloc", "cudaMallok")) - known == {
        "cudaMallok",
        "cudaMallokHost",
    }


class BothCudas(FakeCuda):
    """The stand-in answers. The real binding is asked the same and refuses, without a driver; but
    it must take the arguments and give as many results."""

    def __init__(self, real: Any) -> None:
        super().__init__()
        self.real, self.asked = real, set()
        self.cudaStreamNonBlocking = real.cudaStreamNonBlocking
        self.cudaMemcpyKind = real.cudaMemcpyKind
        self.cudaStreamCaptureMode = real.cudaStreamCaptureMode

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if not name.startswith("cuda") or not inspect.isroutine(found):
            return found

        def called(*args: Any) -> Any:
            self.asked.add(name)
            result = found(*args)
            handles = [real.cudaGraph_t(0) if isinstance(arg, list) else arg for arg in args]
            answer = getattr(real, name)(*handles)
            assert isinstance(answer[0], real.cudaError_t), name
            assert len(answer) == len(result) or int(result[0]), name
            return result

        real = self.real
        return called


def test_cuda_takes_our_arguments_and_gives_as_many_results(real_cuda: Any) -> None:
    """Order and number of arguments: a call of each function, by our own code."""
    if int(real_cuda.cudaGetDeviceCount()[0]) == 0:
        pytest.skip("a GPU is here, which would do what it is told")
    cuda = BothCudas(real_cuda)
    gpu = Gpu(0, cuda, FakeTensorRT(cuda))
    assert gpu.machine().gpu == "Stand-in"
    buffers = [gpu.allocate((1, 2, 3, 4), "float32") for _ in range(2)]
    gpu.write(np.ones((1, 2, 3, 4), np.float32), buffers[0])
    gpu.copy_rows(*buffers, num_rows=2)
    assert gpu.read(buffers[1])[:, :, :2].all()
    gpu.capture(lambda: None).launch()
    cuda.failing["cudaMalloc"] = real_cuda.cudaError_t.cudaErrorMemoryAllocation
    with pytest.raises(RuntimeError, match=r"cudaMalloc failed: out of memory \(error 2\)"):
        gpu.allocate((1,), "uint8")
    del buffers, gpu
    gc.collect()
    functions = {name for name in cuda_names(GPU) if inspect.isroutine(getattr(FakeCuda, name, 0))}
    assert cuda.asked == functions


def test_polygraphy_finds_tensorrt_under_its_wheels_name(bindings: Path) -> None:
    """It imports `tensorrt`, and the wheel of the bindings has no such module."""
    code = """
from pipeline.engines.gpu import import_tensorrt
trt = import_tensorrt()
from polygraphy.backend import trt as polygraphy_trt
from polygraphy.backend.trt import util
assert util.trt.__version__ == trt.__version__, util.trt
config = polygraphy_trt.CreateConfig(profiles=[polygraphy_trt.Profile()], weight_streaming=True)
print(trt.__name__, trt.__version__)
"""
    path = os.pathsep.join(map(str, (bindings, ROOT, PACKAGES)))
    environment = {**os.environ, "PYTHONPATH": path, "POLYGRAPHY_USE_TENSORRT_RTX": "0"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.split()[-2:] == ["tensorrt_bindings", "11.4.0.106"], done.stderr


def test_a_gpu_server_has_the_bindings_that_we_are_held_against() -> None:
    """Another version may have other names."""
    pins = [
        {line.split()[0] for line in lock.read_text().splitlines() if line.startswith("cuda-")}
        for lock in (LOCK, LOCK.with_name("gpu.lock"))
    ]
    assert pins[0] == pins[1]
    assert len(pins[0]) == 2
