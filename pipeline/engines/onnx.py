"""ONNX Runtime on a CPU behind the interface of `pipeline.engines.base`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from pipeline.engines.base import (
    Array,
    Arrays,
    BoundGraph,
    Buffers,
    LoadedGraph,
    misfit,
    rows_per_buffer,
)

_DTYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
}


class Engine(LoadedGraph):
    """A graph of ONNX Runtime on a CPU."""

    is_on_host = True

    def __init__(self, path: Path, num_threads: int = 1, *, spinning: bool = False) -> None:
        """Load `path`; its weights lie beside it. `num_threads` is the cores this process owns.
        With `spinning` they wait for each other awake while the graph runs: for cores that no other
        process wants at that time."""
        if not path.is_file():
            raise FileNotFoundError(f"graph {path} is missing; `make repository` puts it there")
        options = ort.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
        options.add_session_config_entry("session.force_spinning_stop", "1")  # between the runs
        options.log_severity_level = 3
        self.path = path
        self.session = ort.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        self.inputs = {i.name: (i.shape, _DTYPES[i.type]) for i in self.session.get_inputs()}
        self.outputs = {o.name: (o.shape, _DTYPES[o.type]) for o in self.session.get_outputs()}

    def allocate(self, shape: Sequence[int], dtype: type[np.generic]) -> Array:
        return np.zeros(shape, dtype)

    def bind(self, reads: Buffers, writes: Buffers) -> "Binding":
        return Binding(self, reads, writes)

    def copy_rows(self, source: Buffers, target: Buffers, num_rows: int) -> None:
        for name, array in source.items():
            target[name][:, :, :num_rows] = array[:, :, :num_rows]

    def read_rows(self, buffers: Buffers, num_rows: int) -> Array:
        first = (array[:, :, :num_rows] for array in buffers.values())
        return np.concatenate([np.ascontiguousarray(rows).view(np.uint8).ravel() for rows in first])

    def write_rows(self, rows: Array, buffers: Buffers, num_rows: int) -> None:
        first = [array[:, :, :num_rows] for array in buffers.values()]
        for target, data in zip(
            first, rows_per_buffer(rows, [t.nbytes for t in first]), strict=True
        ):
            target[...] = data.view(target.dtype).reshape(target.shape)

    def run(self, inputs: Arrays) -> Buffers:
        """Run a stateless graph; shapes may differ from call to call."""
        names, checked = list(self.outputs), {n: self.check(n, a) for n, a in inputs.items()}
        return dict(zip(names, self.session.run(names, checked), strict=True))

    def warm_up(self, **sizes: int) -> None:
        """Run a stateless graph once on zeros; `sizes` are those of its dynamic axes, by name."""
        self.run(
            {
                name: np.zeros([sizes[d] if isinstance(d, str) else d for d in shape], dtype)
                for name, (shape, dtype) in self.inputs.items()
            }
        )

    def check_fit(self, name: str, array: Array) -> None:
        shape, dtype = self.inputs[name]
        if array.dtype != dtype or not _fits(array.shape, shape):
            raise misfit(f"{self.path.name}: {name}", array, np.dtype(dtype), shape)


class Binding(BoundGraph):
    """An ONNX Runtime graph on one set of arrays."""

    def __init__(self, engine: Engine, reads: Buffers, writes: Buffers) -> None:
        super().__init__(engine, reads)
        self.session = engine.session
        self._io = engine.session.io_binding()
        self._bound: list[object] = []  # memory that the binding points to
        self._inputs: Arrays = {}  # inputs of the run under way, kept alive
        for name, array in reads.items():
            assert engine.check(name, array) is array, f"{name} must be contiguous"
            self._io.bind_ortvalue_input(name, self._share(array))
        self.outputs: Buffers = {}
        for name, (shape, dtype) in engine.outputs.items():
            array = writes[name] if name in writes else np.zeros(shape, dtype)
            if name not in writes:
                self.outputs[name] = array
            self._io.bind_ortvalue_output(name, self._share(array))

    def _share(self, array: Array) -> ort.OrtValue:
        value = ort.OrtValue.ortvalue_from_numpy(array)
        assert value.data_ptr() == array.ctypes.data, "ONNX Runtime copied a buffer"
        self._bound += [array, value]
        return value

    def run_checked(self, inputs: Arrays) -> Buffers:
        self._inputs = inputs
        for name, array in inputs.items():
            self._io.bind_cpu_input(name, array)
        self.session.run_with_iobinding(self._io)
        return self.outputs


def _fits(shape: Sequence[int], wanted: Sequence[int | str | None]) -> bool:
    return len(shape) == len(wanted) and all(
        w == n for n, w in zip(shape, wanted, strict=True) if isinstance(w, int)
    )
