"""The load test: what is sent, how the answers are counted, and one short run of both drivers."""

import base64
import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import load_drivers, load_report, load_test
from benchmarks.load_drivers import Load, run_client, run_perf_analyzer
from benchmarks.load_report import Track, figures
from deploy.server.local import LocalServer
from live_avatar_client.protocol import INPUTS
from tests.support.programs import needs_perf_analyzer

IMAGE = Path(__file__).parents[2] / "examples" / "portrait.png"
PROFILE = Path(__file__).parents[1] / "data" / "perf_analyzer_profile.json"
PROFILE_FRAME_BYTES = 3  # its frames were cut to one pixel each

CONFIG = 'parameters { key: "max_sessions" value { string_value: "2" } }'
DTYPES = {"UINT8": np.uint8, "INT64": np.int64, "FP32": np.float32}


def decode(step: dict, name: str) -> np.ndarray:
    raw = base64.b64decode(step[name]["content"]["b64"])
    return np.frombuffer(raw, DTYPES[INPUTS[name].datatype]).reshape(step[name]["shape"])


@pytest.fixture
def audio() -> np.ndarray:
    return np.linspace(-1, 1, 40_000, dtype=np.float32)


@pytest.fixture
def load(audio: np.ndarray, tmp_path: Path) -> Load:
    return Load(
        image=IMAGE,
        audio=audio,
        samples_per_request=16_000,
        num_sequences=2,
        limit_s=60.0,
        folder=tmp_path,
    )


def test_sequence_file_holds_the_session_that_was_asked_for(
    tmp_path: Path, audio: np.ndarray
) -> None:
    """A wrong byte order, shape or cut would load the server with something else."""
    steps = load_drivers.sequence(audio, IMAGE, samples_per_request=16_000, prompt="hé", seed=7)
    load_drivers.write_sequences(tmp_path / "sequences.json", [steps])
    (written,) = json.loads((tmp_path / "sequences.json").read_text())["data"]
    assert decode(written[0], "image").tobytes() == IMAGE.read_bytes()
    assert decode(written[0], "prompt").tobytes().decode() == "hé"
    assert decode(written[0], "seed").tolist() == [7]
    sent = [decode(step, "audio") for step in written]
    assert [len(part) for part in sent] == [16_000, 16_000, 8_000]
    np.testing.assert_array_equal(np.concatenate(sent), audio)


def test_only_the_first_step_carries_the_picture(audio: np.ndarray) -> None:
    """The server refuses a picture in mid-session: perf_analyzer would stop at the second step."""
    steps = load_drivers.sequence(audio, IMAGE, samples_per_request=16_000, prompt="a")
    assert [sorted(step) for step in steps] == [
        ["audio", "image", "prompt", "seed"],
        ["audio"],
        ["audio"],
    ]


def test_every_step_fits_the_wire(audio: np.ndarray) -> None:
    """perf_analyzer compares shapes with the model's before it sends anything."""
    for step in load_drivers.sequence(audio, IMAGE, samples_per_request=9_000, prompt="a"):
        for name in step:
            INPUTS[name].check(name, decode(step, name))


def test_a_sequence_of_one_request_is_refused(audio: np.ndarray) -> None:
    """START and END would be one request, and nothing of a stream would be measured."""
    with pytest.raises(ValueError, match="wanted 2 or more"):
        load_drivers.sequence(audio, IMAGE, samples_per_request=len(audio), prompt="a")


def test_a_copy_of_the_repository_has_places_for_all(tmp_path: Path) -> None:
    """With two places, six of eight sessions would be refused. The repository stays as it is."""
    for model, text in (("live_avatar", CONFIG), ("dit_stage_0", CONFIG), ("audio_tokens", "")):
        (tmp_path / "served" / model / "1").mkdir(parents=True)
        (tmp_path / "served" / model / "configs").mkdir()
        for name in ("config.pbtxt", "configs/cpu.pbtxt"):  # a server on a CPU reads the second
            (tmp_path / "served" / model / name).write_text(text)
    (tmp_path / "served" / "live_avatar" / "1" / "graph.onnx").write_bytes(b"graph")
    larger = load_test.with_places(tmp_path / "served", 8, tmp_path / "larger")
    assert load_test.possible(tmp_path / "served") == [1, 2]
    assert load_test.possible(larger) == list(load_test.LEVELS)
    assert '"8"' in (larger / "dit_stage_0" / "configs" / "cpu.pbtxt").read_text()
    assert (larger / "live_avatar" / "1" / "graph.onnx").read_bytes() == b"graph"


def test_profile_gives_every_block_its_own_time() -> None:
    """perf_analyzer's printed latency is one number per request; a stream is judged by blocks."""
    first, second = load_drivers.read_profile(PROFILE, PROFILE_FRAME_BYTES)
    assert first.started_s < second.started_s
    for track in (first, second):
        assert len(track.blocks_s) == 5
        assert list(track.blocks_s) == sorted(track.blocks_s)
        assert track.num_frames == 60
        assert len(track.answers_s) == 2  # three requests, START not among them
    # read off the export: START at 0 ms, blocks at 1793.6 and 2012.4; second request at 2013.3,
    # its first block at 2984.0. A double holds these times to a microsecond.
    arrivals_ms = [1e3 * (second_s - first.started_s) for second_s in first.blocks_s[:2]]
    assert arrivals_ms == pytest.approx([1793.6, 2012.4], abs=0.05)
    assert 1e3 * first.answers_s[0] == pytest.approx(2984.0 - 2013.3, abs=0.1)


def test_empty_final_responses_are_not_blocks() -> None:
    """They would double the throughput of short requests."""
    exported = json.loads(PROFILE.read_text())["experiments"][0]["requests"]
    responses = sum(len(request["response_timestamps"]) for request in exported)
    tracks = load_drivers.read_profile(PROFILE, PROFILE_FRAME_BYTES)
    assert responses == 16
    assert sum(len(track.blocks_s) for track in tracks) == 10


def test_figures_of_a_known_run() -> None:
    """Two sessions at a time, blocks of 12 frames; the numbers are worked out by hand."""
    tracks = [
        Track(started_s=10.0, blocks_s=[11.0, 11.5, 12.0], num_frames=36, answers_s=[0.25]),
        Track(started_s=10.5, blocks_s=[12.5, 14.0], num_frames=24),
    ]
    got = figures(tracks, 2)
    assert got["blocks_per_s"] == 1.25  # 5 blocks from 10.0 to 14.0
    assert got["frames_per_s"] == 15.0
    assert got["realtime_factor"] == 0.3  # 15 / 25 / 2
    assert got["first_block_ms"] == {"count": 2, "p50": 1500.0, "p95": 1950.0, "p99": 1990.0}
    assert got["block_interval_ms"]["p50"] == 500.0
    assert got["answer_ms"]["count"] == 1


def test_a_run_without_a_block_is_an_error() -> None:
    """It would read as a division by zero, far from its cause."""
    with pytest.raises(ValueError, match="not one block"):
        figures([Track(started_s=0.0, blocks_s=[], num_frames=0)], 1)


def test_page_shows_both_drivers_and_what_perf_analyzer_said() -> None:
    """The page is written by the run: a missing column would go unnoticed."""
    tracks = load_drivers.read_profile(PROFILE, PROFILE_FRAME_BYTES)
    ours = figures([dataclasses.replace(track, answers_s=()) for track in tracks], 2)
    said = "Settings\n\nRequest concurrency: 2\n  Client: \n    p50 latency: 9 usec\n    \n"
    report = {
        **dict.fromkeys(("cpu", "cores", "load", "load_after", "triton", "commit", "preset"), "?"),
        **{"python": "3", "perf_analyzer_version": "2", "picture": [64, 48]},
        **{"audio_s": 2.4, "request_s": 0.96},
        "perf_analyzer": {2: figures(tracks, 2)},
        "client": {2: ours},
        "perf_analyzer_said": {2: f"{said}Inferences/Second vs. Client\nConcurrency: 2"},
    }
    text = load_report.page(report)
    assert "| perf_analyzer, 2 at a time | our client, 2 at a time |" in text
    assert "```\nRequest concurrency: 2\n  Client:\n    p50 latency: 9 usec\n```" in text
    assert "48 × 64 pixels" in text
    assert "{" not in text


def test_time_that_is_up_ends_the_test_in_words(load: Load) -> None:
    """A slow machine must not keep the load test running for an hour."""
    late = dataclasses.replace(load, began_s=time.monotonic() - 61.0)
    with pytest.raises(RuntimeError, match="longer than its 60 s"):
        late.seconds_left()


@needs_perf_analyzer
@pytest.mark.slow
@pytest.mark.triton
def test_both_drivers_get_every_block_of_two_sessions(server: LocalServer, load: Load) -> None:
    """What perf_analyzer generates must be what the server takes: START, audio, END."""
    short = dataclasses.replace(load, audio=load.audio[:16_000], samples_per_request=7680)
    report = load_test.measure(server.grpc_url, server.repository, short, levels=(2,))
    for driver in ("perf_analyzer", "client"):
        got = report[driver][2]
        assert (got["sequences"], got["blocks"], got["frames"]) == (2, 6, 50), driver
        assert got["block_interval_ms"]["count"] == 4
    assert report["perf_analyzer"][2]["answer_ms"]["count"] == 4
    assert json.loads(json.dumps(report))["triton"]


@needs_perf_analyzer
@pytest.mark.slow
@pytest.mark.triton
def test_an_error_of_the_server_fails_the_load_test_in_its_words(
    server: LocalServer, load: Load
) -> None:
    """perf_analyzer exits in silence otherwise, and half a run would be reported."""
    loud = dataclasses.replace(load, audio=100 * load.audio)
    with pytest.raises(RuntimeError, match="wanted \\[-1, 1\\]"):
        run_perf_analyzer(server.grpc_url, loud, 1, 1)
    with pytest.raises(Exception, match="wanted \\[-1, 1\\]"):
        run_client(server.grpc_url, loud, 2)
