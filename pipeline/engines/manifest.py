"""What a compiled engine is tied to, written beside its plan and compared before it is loaded.

A plan runs on the GPU architecture and the TensorRT version it was built with, and nowhere else.
The manifest says so in words before TensorRT says it in a number. (docs/deploy.md, GPUs)
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.identity.file_hashes import short

BYTES = {
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "uint8": 1,
    "int8": 1,
    "bool": 1,
    "float8": 1,
}
ON_DEVICE = ("cache_", "present_", "text_k_", "text_v_", "state_", "next_state_", "tokens")
"""How the names of inputs and outputs begin that never leave the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """An input or output: element type, and its smallest and its largest shape."""

    dtype: str
    smallest: tuple[int, ...]
    largest: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.dtype not in BYTES:
            raise ValueError(f"element type {self.dtype!r}, known are {', '.join(BYTES)}")

    @property
    def num_bytes(self) -> int:
        """Bytes at its largest."""
        return BYTES[self.dtype] * math.prod(self.largest)

    @property
    def is_open(self) -> bool:
        """Whether its shape may vary."""
        return self.smallest != self.largest

    def holds(self, shape: tuple[int, ...]) -> bool:
        """Whether a shape is within its smallest and its largest."""
        return len(shape) == len(self.smallest) and all(
            low <= size <= high
            for low, size, high in zip(self.smallest, shape, self.largest, strict=True)
        )

    @property
    def sizes(self) -> str:
        """Its shapes, for messages."""
        return f"{list(self.smallest)}" + f" to {list(self.largest)}" * self.is_open


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The part of a machine that a plan depends on."""

    gpu: str
    compute_capability: str  # `9.0` for an H100
    tensorrt: str
    library: str = "tensorrt"  # `tensorrt`, or `tensorrt_rtx`, whose plans are another format


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One plan: what it was made from, with what, for what."""

    graph: str
    machine: Machine
    gpu_memory_bytes: int  # memory of the GPU it was built on; 0 where there was none
    opset: int
    precision: str
    sources: dict[str, str]
    """File -> sha256 of the graph and of every file that its weights lie in."""
    weights_bytes: int
    scratch_bytes: int  # activation memory of one execution context
    plan_bytes: int
    builder_flags: tuple[str, ...]
    build_seconds: float
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    streams_weights: bool = False
    """Weights may stay in host memory and are brought along for each call."""

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Manifest":
        """ValueError names the file and what is wrong with it."""
        if not path.is_file():
            raise FileNotFoundError(f"manifest {path} is missing; `make engines` writes it")
        try:
            return cls._read(json.loads(path.read_text()))
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise ValueError(f"{path}: {error}; build the engines anew: make engines") from error

    @classmethod
    def _read(cls, values: dict[str, Any]) -> "Manifest":
        known = dataclasses.fields(cls)
        needed = {field.name for field in known if field.default is dataclasses.MISSING}
        if lacking := sorted(needed - set(values)):
            raise ValueError(f"no manifest of this version, it lacks {', '.join(lacking)}")
        values = {field.name: values[field.name] for field in known if field.name in values}
        if not all(isinstance(sha256, str) for sha256 in values["sources"].values()):
            raise ValueError("its sources are no object of file names and hashes")
        machine = Machine(**values.pop("machine"))
        flags = tuple(values.pop("builder_flags"))
        inputs, outputs = (
            {name: _tensor(entry) for name, entry in values.pop(side).items()}
            for side in ("inputs", "outputs")
        )
        return cls(machine=machine, builder_flags=flags, inputs=inputs, outputs=outputs, **values)

    def check(self, machine: Machine) -> None:
        """ValueError that names every difference to the machine that loads the plan."""
        wrong = [
            f"{name} {wanted} (here: {getattr(machine, name)})"
            for name, wanted in dataclasses.asdict(self.machine).items()
            if wanted != getattr(machine, name)
        ]
        if wrong:
            raise ValueError(
                f"{self.graph}.plan was built for {', '.join(wrong)}: build it here, make engines"
            )


def manifest_path(plan: Path) -> Path:
    """`dit_step.plan` -> `dit_step.manifest.json`."""
    return plan.with_suffix(".manifest.json")


def check_sources(manifests: Iterable[Manifest], hashes: Mapping[str, str], where: str) -> None:
    """ValueError if a plan was built from other files than those of `hashes`, file -> sha256.

    `where` is the model or the folder whose hashes these are. All plans and files are named.
    """
    wrong = [
        f"{manifest.graph}.plan is built from {name} of sha256 {short(sha256)}, wanted "
        f"{short(hashes[name]) if name in hashes else 'none of that name'}"
        for manifest in manifests
        for name, sha256 in sorted(manifest.sources.items())
        if hashes.get(name) != sha256
    ]
    if wrong:
        raise ValueError(
            f"{where}: plans of another export: {'; '.join(wrong)}; build the engines anew: "
            "make engines"
        )


def _tensor(values: dict[str, Any]) -> TensorSpec:
    shapes = {key: tuple(values[key]) for key in ("smallest", "largest")}
    return TensorSpec(dtype=values["dtype"], **shapes)
