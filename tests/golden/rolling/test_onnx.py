"""The exported window graphs in ONNX Runtime, caches written in place, against the release."""

import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.golden.fixtures import max_abs
from tests.golden.rolling.fixtures import (
    ROLLING,
    STREAMS,
    TOLERANCE,
    RecordingStage,
    arrays,
    export_inputs,
    facts,
    graph_groups,
    needs_rolling,
    network,
    onnx_stage,
    preset,
)
from tests.golden.rolling.plays import (
    cases,
    longlive_rules,
    named,
    play,
    play_case,
    self_forcing_rules,
)

pytestmark = needs_rolling

GROUPS = graph_groups()
FIRST = max(GROUPS, key=lambda source: len(GROUPS[source]), default="")
SLOW = pytest.mark.slow  # each set of graphs takes half a minute to export


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Graphs of the stream that most others share."""
    if not STREAMS:
        pytest.skip(f"no streams in {ROLLING}")
    out = tmp_path_factory.mktemp("rolling")
    onnx_stage(FIRST, out)
    return out


@pytest.mark.parametrize("stream", GROUPS.get(FIRST, []))
def test_a_stream_on_a_cache_in_place_equals_the_release(folder: Path, stream: str) -> None:
    """Every window shape, every number of cached blocks from none on, and the clean pass."""
    latents = play(RecordingStage.load(folder), stream)
    assert max_abs(latents, arrays(stream, "final")["latents"]) <= TOLERANCE


@SLOW
@pytest.mark.parametrize("source", [source for source in GROUPS if source != FIRST])
def test_other_sizes_equal_the_release(tmp_path: Path, source: str) -> None:
    """Another number of levels, a noisy context, two streams that take turns on one stage."""
    onnx_stage(source, tmp_path)
    for stream in GROUPS[source]:
        latents = play(RecordingStage.load(tmp_path), stream)
        assert max_abs(latents, arrays(stream, "final")["latents"]) <= TOLERANCE, stream


@pytest.fixture(scope="module")
def sequential(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Graphs of sequential streams that run their cache again, of which the largest fits."""
    out = tmp_path_factory.mktemp("sequential")
    rules = longlive_rules(facts("longlive_switch")["cases"][0])
    spans = [self_forcing_rules(case)["span_frames"] for case in facts("self_forcing")["cases"]]
    rules["span_frames"] = max(rules["span_frames"], *spans)
    onnx_stage("longlive_switch", out, **rules)
    return out


def _under_rules(folder: Path, source: str, rules: dict, out: Path) -> RecordingStage:
    """The graphs of `folder` with another set's weights and rules; its own where sizes differ."""
    wanted, given = preset(source, **rules), preset("longlive_switch")
    if wanted.wan != given.wan or wanted.stream.token_grid != given.stream.token_grid:
        return onnx_stage(source, out, **rules)
    shutil.copytree(folder, out, dirs_exist_ok=True)
    export_inputs(wanted, network(source), out)
    return RecordingStage.load(out)


@SLOW
@pytest.mark.parametrize("case", cases("longlive_switch"), ids=named)
def test_prompt_switches_in_place_equal_the_release(
    sequential: Path, tmp_path: Path, case: dict[str, Any]
) -> None:
    """Absolute and relative positions, old and new sink: one set of graphs serves them all."""
    stage = _under_rules(sequential, "longlive_switch", longlive_rules(case), tmp_path)
    latents = play_case(stage, "longlive_switch", "longlive", case)
    wanted = arrays("longlive_switch", "longlive")[f"{case['case']}.latents"]
    assert max_abs(latents, wanted) <= TOLERANCE


@SLOW
@pytest.mark.parametrize("case", cases("self_forcing"), ids=named)
def test_self_forcing_in_place_equals_the_release(
    sequential: Path, tmp_path: Path, case: dict[str, Any]
) -> None:
    """Other weights in the same file, other rules in rolling.json, the same graphs."""
    stage = _under_rules(sequential, "self_forcing", self_forcing_rules(case), tmp_path)
    latents = play_case(stage, "self_forcing", "self_forcing", case)
    wanted = arrays("self_forcing", "self_forcing")[f"{case['case']}.latents"]
    assert max_abs(latents, wanted) <= TOLERANCE


def test_graphs_hold_no_weights_and_name_no_machine(folder: Path) -> None:
    """Weights would be stored four times, or graphs differ from machine to machine."""
    for path in sorted(folder.glob("*.onnx")):
        model = onnx.load(path, load_external_data=False)
        inside = [t for t in model.graph.initializer if t.data_location != t.EXTERNAL]
        # A norm without weights has a row of ones, the rest are shapes.
        assert max(len(t.raw_data) for t in inside) <= 4 * preset(FIRST).wan.dim
        assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
        assert b".py" not in path.read_bytes()


def test_a_clean_pass_reads_its_cache_only_through_the_scattered_one(folder: Path) -> None:
    """In place, any other reader would see the cache before or after the write by chance."""
    graph = onnx.load(folder / "dit_clean.onnx", load_external_data=False).graph
    readers = [n.op_type for n in graph.node for i in n.input if i.startswith("cache_")]
    assert set(readers) == {"TensorScatter"}
    assert len(readers) == 2 * preset(FIRST).wan.num_layers
