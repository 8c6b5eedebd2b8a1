"""What the exporter needs to know of one ONNX graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from networks.graph_inputs import Shape, dtype_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """One ONNX file to be written: a module, example inputs, names, and where its weights lie.

    `module` is called with keyword tensors under the names in `inputs` and returns its outputs as
    one tensor or a tuple in the order of `output_names` (a signature with `**states` suits a
    varying number of states).
    """

    name: str  # file name without `.onnx`, as in the list of graphs
    module: nn.Module
    inputs: Mapping[str, Tensor]
    """Example inputs; their shapes and dtypes become the graph's, but for the dynamic axes."""
    output_names: Sequence[str]
    dynamic: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    """Input name -> axis -> name of the dynamic axis; all other axes are static. An axis name used
    by several inputs means that their sizes are equal. Give a dynamic axis an example size of 2 or
    more: sizes 0 and 1 would be specialised."""
    output_axes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    """Output name -> axis -> dynamic axis name, where the exporter's own expression reads badly."""
    weights_file: str = ""
    """Safetensors file name beside the graph, which holds every parameter and buffer of `module`
    that `key_of` names."""
    key_of: Mapping[str, str] = field(default_factory=dict)
    """Name in `module.state_dict()` -> key in the safetensors file. Parameters that aren't named
    here stay inside the .onnx file (for small constants only)."""

    def __post_init__(self) -> None:
        state = self.module.state_dict()
        if unknown := sorted(set(self.key_of) - set(state)):
            raise ValueError(f"graph {self.name}: key_of names {unknown}, which the module lacks")
        if self.key_of and not self.weights_file:
            raise ValueError(f"graph {self.name}: key_of without a weights_file")
        for name in {*self.dynamic} - {*self.inputs}:
            raise ValueError(f"graph {self.name}: dynamic axes of unknown input {name}")
        for name in {*self.output_axes} - {*self.output_names}:
            raise ValueError(f"graph {self.name}: dynamic axes of unknown output {name}")
        if len(set(self.output_names)) != len(self.output_names):
            raise ValueError(f"graph {self.name}: repeated names among {list(self.output_names)}")

    @property
    def positional_inputs(self) -> list[torch.Tensor]:
        return list(self.inputs.values())


def keys_under(module: nn.Module, prefix: str) -> dict[str, str]:
    """key_of for a module whose child `prefix` is the checkpoint's network: strips the prefix."""
    start = f"{prefix}."
    return {name: name[len(start) :] for name in module.state_dict() if name.startswith(start)}


def network_graph(
    name: str,
    module: nn.Module,
    child: str,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    weights_file: str,
    **axes: Mapping[str, Mapping[int, str]],
) -> Graph:
    """A graph whose module has the checkpoint's network as its `child`."""
    return Graph(
        name=name,
        module=module,
        inputs=inputs,
        output_names=outputs,
        weights_file=weights_file,
        key_of=keys_under(module, child),
        **axes,
    )


def examples(shapes: Mapping[str, Shape]) -> dict[str, Tensor]:
    """Example inputs of a transformer's graph."""
    return {name: torch.zeros(shape, dtype=dtype_of(name)) for name, shape in shapes.items()}
