"""The exported DiT graphs in ONNX Runtime, caches written in place, against the release."""

from pathlib import Path

import onnx
import pytest

from networks.dit import DiT
from tests.golden.avatar.dit_plays import play_forwards, play_run
from tests.golden.avatar.dit_stream import DiTStream, load_dit
from tests.golden.avatar.onnx_driver import OnnxDriver, open_graphs
from tests.golden.fixtures import needs_golden, preset

pytestmark = needs_golden

TOLERANCE = 1e-4
"""Five times eager PyTorch's: another library's kernels; a wrong feature moves 1e-4 to 1."""


@pytest.fixture(scope="module")
def dit() -> DiT:
    return load_dit()


@pytest.fixture(scope="module")
def folder(artifacts: Path) -> Path:
    return artifacts


@pytest.fixture(scope="module")
def new_stream(dit: DiT, folder: Path):
    graphs = open_graphs(folder)
    return lambda: DiTStream(OnnxDriver(graphs, preset().pipeline), dit)


def test_every_forward_on_a_cache_in_place_equals_the_release(new_stream) -> None:
    """The export would compute something else, or read a cache before it is written."""
    errors = play_forwards(new_stream())
    assert {name: error for name, error in errors.items() if not error <= TOLERANCE} == {}


def test_the_whole_run_in_place_equals_the_release(new_stream) -> None:
    """Four in-place caches would disturb each other, or errors would add up over the run."""
    errors = play_run([new_stream() for _ in range(preset().pipeline.num_steps)])
    assert {name: error for name, error in errors.items() if not error <= TOLERANCE} == {}


def test_graphs_hold_no_weights_and_name_no_machine(dit: DiT, folder: Path) -> None:
    """Committed graphs would be large, or would differ from machine to machine."""
    keys = set(dit.state_dict())
    for path in sorted([*folder.glob("dit_*.onnx"), folder / "audio_tokens.onnx"]):
        model = onnx.load(path, load_external_data=False)
        inside = [t for t in model.graph.initializer if t.data_location != t.EXTERNAL]
        assert max(len(t.raw_data) for t in inside) <= 4 * preset().dit.dim  # a norm of ones
        assert {t.name for t in model.graph.initializer if t not in inside} <= keys
        assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
        assert b".py" not in path.read_bytes()


def test_a_cache_is_read_only_through_the_scattered_one(folder: Path) -> None:
    """In place, any other reader would see the cache before or after the write by chance."""
    graph = onnx.load(folder / "dit_step.onnx", load_external_data=False).graph
    readers = [n.op_type for n in graph.node for i in n.input if i.startswith("cache_")]
    assert set(readers) == {"TensorScatter"}
    assert len(readers) == 2 * preset().dit.num_layers


def test_attention_reads_no_mask(folder: Path) -> None:
    """At 14B a mask is 48 MB that every head of every layer reads; what is seen is a prefix."""
    graph = onnx.load(folder / "dit_step.onnx", load_external_data=False).graph
    attentions = [node for node in graph.node if node.op_type == "Attention"]
    assert len(attentions) == 2 * preset().dit.num_layers + len(preset().dit.inject_layers)
    assert {len(node.input) for node in attentions} == {3}
