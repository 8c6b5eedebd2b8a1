"""Phase A's assertions notice what they are there for: each meets a fault of its kind."""

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu_experiment import binding
from benchmarks.gpu_experiment.binding import CHECKS, DISTURBED, Bench
from benchmarks.gpu_experiment.phase import Findings
from pipeline.engines.gpu import CapturedGraph, Gpu
from pipeline.engines.host_arrays import storage_type
from pipeline.engines.tensorrt import TensorRTBinding, TensorRTEngine

EVERY = {**CHECKS, **DISTURBED}


def stale_replay(patch: pytest.MonkeyPatch) -> None:
    """Inputs of a replay are not brought."""
    feed = TensorRTBinding._feed

    def first_only(bound: TensorRTBinding, name: str, array: Any) -> None:
        if bound._graph is None:
            feed(bound, name, array)

    patch.setattr(TensorRTBinding, "_feed", first_only)


def kept_graph(patch: pytest.MonkeyPatch) -> None:
    """What was captured for another shape is launched."""
    patch.setattr(TensorRTBinding, "_graph", property(lambda self: self.kept, keep), raising=False)


def keep(self: Any, graph: CapturedGraph | None) -> None:
    self.kept = graph or getattr(self, "kept", None)


def one_row_less(patch: pytest.MonkeyPatch) -> None:
    copy = Gpu.copy_rows
    patch.setattr(Gpu, "copy_rows", lambda gpu, one, other, rows: copy(gpu, one, other, rows - 1))


def sent_one_row_less(patch: pytest.MonkeyPatch) -> None:
    upload = Gpu.upload_rows
    patch.setattr(
        Gpu, "upload_rows", lambda gpu, one, other, rows: upload(gpu, one, other, rows - 1)
    )


def freed_while_seen(patch: pytest.MonkeyPatch) -> None:
    """Pinned memory goes with the array that was made first, not with the last view."""
    allocate = Gpu.allocate_pinned

    def shared(gpu: Gpu, shape: tuple[int, ...], dtype: str) -> Any:
        if not hasattr(gpu, "common"):
            gpu.common = allocate(gpu, (4096,), "uint8")
        size = torch.Size(shape).numel() * storage_type(dtype).itemsize
        if size > 4096:
            return allocate(gpu, shape, dtype)
        return gpu.common[:size].view(storage_type(dtype)).reshape(shape)

    patch.setattr(Gpu, "allocate_pinned", shared)


def main_thread_only(patch: pytest.MonkeyPatch) -> None:
    run = TensorRTBinding.run_checked

    def here(bound: TensorRTBinding, inputs: Any) -> Any:
        results = run(bound, inputs)
        if threading.current_thread() is not threading.main_thread():
            results["y"][:] = 0
        return results

    patch.setattr(TensorRTBinding, "run_checked", here)


def freed_in_capture(patch: pytest.MonkeyPatch) -> None:
    def at_once(gpu: Gpu, name: str, resource: Any) -> None:
        with contextlib.suppress(RuntimeError):
            gpu.call(name, resource)

    patch.setattr(Gpu, "_release", at_once)


def no_fallback(patch: pytest.MonkeyPatch) -> None:
    """The error of a capture is that of the run."""
    capture = Gpu.capture

    def failing(gpu: Gpu, start: Callable[[], None]) -> CapturedGraph:
        try:
            return capture(gpu, start)
        except RuntimeError as error:
            raise ValueError(str(error)) from error

    patch.setattr(Gpu, "capture", failing)


def every_thread_spoils(patch: pytest.MonkeyPatch) -> None:
    """As a capture in the global mode."""
    fake = pytest.importorskip("tests.support.fake_gpu").FakeCuda

    def spoil(cuda: Any) -> bool:
        cuda.is_spoilt |= cuda.recording is not None
        return cuda.recording is not None

    patch.setattr(fake, "spoil", spoil)


FAULTS = dict(
    zip(
        EVERY,
        (
            stale_replay,
            kept_graph,
            one_row_less,
            sent_one_row_less,
            freed_while_seen,
            main_thread_only,
            freed_in_capture,
            no_fallback,
            every_thread_spoils,
        ),
        strict=True,
    )
)


@pytest.mark.parametrize("name", EVERY)
def test_an_assertion_holds_and_meets_its_fault(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that cannot fail would be ticked off on the GPU, too."""
    assert EVERY[name](Bench(True, tmp_path))
    FAULTS[name](monkeypatch)
    held = False
    with contextlib.suppress(RuntimeError, ValueError):
        held = EVERY[name](Bench(True, tmp_path))
    assert not held


def test_a_leak_of_one_buffer_a_session_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU would be full after some hours."""
    kept: list[Any] = []
    new_buffers = TensorRTEngine.new_buffers

    def keeping(engine: TensorRTEngine, *prefixes: str) -> Any:
        kept.append(new_buffers(engine, *prefixes))
        return kept[-1]

    findings = Findings(tmp_path / "findings")
    assert binding.gives_back(Bench(True, tmp_path), findings)
    monkeypatch.setattr(TensorRTEngine, "new_buffers", keeping)
    assert not binding.gives_back(Bench(True, tmp_path), findings)
