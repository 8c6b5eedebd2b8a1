"""The comparison of graphs with their networks finds what it is for."""

import shutil
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from export.checks.sides import onnx_runtime
from export.checks.verify import Difference, compare
from export.graphs.encoders import text_graph
from networks.presets import PRESETS

DEMO = Path(__file__).parents[3] / "artifacts" / "demo"
PRESET = PRESETS["demo"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The text encoder alone."""
    for path in DEMO.glob("text_encoder.*"):
        shutil.copyfile(path, tmp_path / path.name)
    return tmp_path


def change(path: Path, scale: float) -> None:
    """Multiply the small float constants of a graph, such as an epsilon, by `scale`."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        if tensor.data_location != tensor.EXTERNAL and tensor.data_type == tensor.FLOAT:
            values = numpy_helper.to_array(tensor)
            if abs(values).max() < 1e30:  # not the mask's
                changed = (values * scale).astype("float32")
                tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    onnx.save(model, path)


def test_a_graph_equals_its_network(folder: Path) -> None:
    """A good export would be refused."""
    (found,) = compare(text_graph(PRESET, folder), onnx_runtime(folder), PRESET)
    assert found.fits
    assert found.share > 0  # two programs: it is not PyTorch compared with itself


def test_a_graph_that_computes_something_else_is_found(folder: Path) -> None:
    """A wrong graph would be served."""
    change(folder / "text_encoder.onnx", 1.01)
    (found,) = compare(text_graph(PRESET, folder), onnx_runtime(folder), PRESET)
    assert not found.fits


def test_an_output_that_is_not_a_number_does_not_fit() -> None:
    """NaN is neither larger nor smaller than any limit."""
    assert not Difference(graph="x", output="y", share=float("nan"), limit=1.0).fits
