"""ONNX Runtime on a CPU behind the interface of `pipeline.engines.base`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from pipeline.engines.base import Array, Arrays, Buffers, check_fed, check_name, misfit

_DTYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
}


class Engine:
    """A graph, loaded once per process and shared by its sessions. Runs on one thread at a time."""

    def __init__(self, path: Path, num_threads: int = 1) -> None:
        """Load `path`; its weights lie beside it. `num_threads` is the cores this process owns."""
        if not path.is_file():
            raise FileNotFoundError(f"graph {path} is missing; `make repository` puts it there")
        options = ort.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self.path = path
        self.session = ort.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        self.inputs = {i.name: (i.shape, _DTYPES[i.type]) for i in self.session.get_inputs()}
        self.outputs = {o.name: (o.shape, _DTYPES[o.type]) for o in self.session.get_outputs()}

    def new_buffers(self, *prefixes: str) -> Buffers:
        """Zeroed memory for every input whose name starts with one of `prefixes`."""
        return {
            name: np.zeros(shape, dtype)
            for name, (shape, dtype) in self.inputs.items()
            if name.startswith(prefixes)
        }

    def bind(self, reads: Buffers, writes: Buffers) -> Binding:
        """Bind `reads` as inputs and `writes` as outputs for as long as the Binding lives."""
        return Binding(self, reads, writes)

    def copy_rows(self, source: Buffers, target: Buffers, num_rows: int) -> None:
        """Copy the first rows of every buffer [1, N, rows, d] to the one of its name."""
        for name, array in source.items():
            target[name][:, :, :num_rows] = array[:, :, :num_rows]

    def run(self, inputs: Arrays) -> Buffers:
        """Run a stateless graph; shapes may differ from call to call."""
        names = list(self.outputs)
        return dict(zip(names, self.session.run(names, self.check_all(inputs)), strict=True))

    def warm_up(self, **sizes: int) -> None:
        """Run a stateless graph once on zeros; `sizes` are those of its dynamic axes, by name."""
        self.run(
            {
                name: np.zeros([sizes[d] if isinstance(d, str) else d for d in shape], dtype)
                for name, (shape, dtype) in self.inputs.items()
            }
        )

    def check_all(self, inputs: Arrays) -> dict[str, Array]:
        """`check` for every input."""
        return {name: self.check(name, array) for name, array in inputs.items()}

    def check(self, name: str, array: Array) -> Array:
        """The array as this graph takes it (contiguous); ValueError if it is not that input."""
        check_name(self.path.name, name, self.inputs)
        shape, dtype = self.inputs[name]
        if array.dtype != dtype or not _fits(array.shape, shape):
            raise misfit(f"{self.path.name}: {name}", array, np.dtype(dtype), shape)
        return np.ascontiguousarray(array)


class Binding:
    """One graph on one set of buffers."""

    def __init__(self, engine: Engine, reads: Buffers, writes: Buffers) -> None:
        self.engine = engine
        self._io = engine.session.io_binding()
        self._bound: list[object] = []  # memory that the binding points to
        self._inputs: dict[str, Array] = {}  # inputs of the run under way, kept alive
        for name, array in reads.items():
            assert engine.check(name, array) is array, f"{name} must be contiguous"
            self._io.bind_ortvalue_input(name, self._share(array))
        self.outputs: Buffers = {}
        for name, (shape, dtype) in engine.outputs.items():
            array = writes[name] if name in writes else np.zeros(shape, dtype)
            if name not in writes:
                self.outputs[name] = array
            self._io.bind_ortvalue_output(name, self._share(array))
        self._fed = [name for name in engine.inputs if name not in reads]

    def _share(self, array: Array) -> ort.OrtValue:
        value = ort.OrtValue.ortvalue_from_numpy(array)
        assert value.data_ptr() == array.ctypes.data, "ONNX Runtime copied a buffer"
        self._bound += [array, value]
        return value

    def run(self, inputs: Arrays) -> Buffers:
        """Run with the inputs that are not bound; the outputs hold until the next run."""
        check_fed(self.engine.path.name, inputs, self._fed)
        self._inputs = self.engine.check_all(inputs)
        for name, array in self._inputs.items():
            self._io.bind_cpu_input(name, array)
        self.engine.session.run_with_iobinding(self._io)
        return self.outputs


def _fits(shape: Sequence[int], wanted: Sequence[int | str | None]) -> bool:
    return len(shape) == len(wanted) and all(
        w == n for n, w in zip(shape, wanted, strict=True) if isinstance(w, int)
    )
