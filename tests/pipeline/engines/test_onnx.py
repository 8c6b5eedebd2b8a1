"""The engine's contract: caches in place, buffers reused, wrong inputs named."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.config.avatar import PipelineConfig
from pipeline.engines.onnx import Engine

DEMO = Path(__file__).parents[3] / "artifacts" / "demo"
CONFIG = PipelineConfig.load(DEMO / "pipeline.json")


SINK = {"actors": 1, "frames": 1, "frame_tokens": CONFIG.num_sink_tokens}
SIZES = {**SINK, "keys": CONFIG.num_sink_tokens}


@pytest.fixture(scope="module")
def trunk() -> Engine:
    return Engine(DEMO / "dit_step.onnx")


def inputs(engine: Engine, bound: tuple[str, ...]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    made = {}
    for name, (shape, dtype) in engine.inputs.items():
        if not name.startswith(bound):
            sizes = [SIZES[n] if isinstance(n, str) else n for n in shape]
            made[name] = rng.standard_normal(sizes).astype(dtype)
    made["write_index"] = np.zeros(1, np.int64)
    return made


def velocity() -> np.ndarray:
    return np.zeros((1, CONFIG.num_sink_tokens, 16), np.float32)


def test_a_cache_is_written_in_place_and_nowhere_else(trunk: Engine) -> None:
    """A copy per layer and block would cost more than the arithmetic saves."""
    cache = trunk.new_buffers("cache_")
    for array in cache.values():
        array[:] = 7.0
    written = {name.replace("cache_", "present_"): array for name, array in cache.items()}
    binding = trunk.bind(cache, {**written, "velocity": velocity()})
    binding.run(inputs(trunk, ("cache_",)))
    sink = CONFIG.num_sink_tokens
    for array in cache.values():
        assert (array[:, :, sink:] == 7.0).all()
        assert np.abs(array[:, :, :sink] - 7.0).min() > 0
    assert not any(name.startswith("present_") for name in binding.outputs)


def test_output_buffers_are_reused_from_run_to_run() -> None:
    """Memory would be allocated for every block."""
    text = Engine(DEMO / "dit_text.onnx")
    binding, feeds = text.bind({}, {}), {"text": np.zeros(text.inputs["text"][0], np.float32)}
    first = {name: array.ctypes.data for name, array in binding.run(feeds).items()}
    again = {name: array.ctypes.data for name, array in binding.run(feeds).items()}
    assert first == again
    assert set(first) == set(text.outputs)


def test_rows_are_copied_to_the_buffers_of_their_names_and_no_more(trunk: Engine) -> None:
    """A step would see another one's ring, or no sink."""
    source, target = trunk.new_buffers("cache_"), trunk.new_buffers("cache_")
    for number, name in enumerate(source):
        source[name][:] = number + 1
    trunk.copy_rows(source, target, CONFIG.num_sink_tokens)
    for number, name in enumerate(source):
        assert (target[name][:, :, : CONFIG.num_sink_tokens] == number + 1).all()
        assert not target[name][:, :, CONFIG.num_sink_tokens :].any()


def test_rows_that_were_read_are_written_to_other_buffers(trunk: Engine) -> None:
    """Another process would get a sink of other heads or layers, or too much of it."""
    source, target = trunk.new_buffers("cache_"), trunk.new_buffers("cache_")
    rng, end = np.random.default_rng(0), CONFIG.num_sink_tokens
    for array in source.values():
        array[:] = rng.standard_normal(array.shape, np.float32)
    rows = trunk.read_rows(source, end)
    assert rows.size == sum(array[:, :, :end].nbytes for array in source.values())
    trunk.write_rows(rows, target, end)
    for name, array in source.items():
        np.testing.assert_array_equal(target[name][:, :, :end], array[:, :, :end])
        assert not target[name][:, :, end:].any()
    with pytest.raises(
        ValueError, match=rf"is uint8\[{rows.size - 1}\], wanted uint8\[{rows.size}\]"
    ):
        trunk.write_rows(rows[1:], target, end)


def test_a_wrong_shape_or_name_is_named(trunk: Engine) -> None:
    """ONNX Runtime's own words don't say which graph."""
    cache = trunk.new_buffers("cache_")
    binding = trunk.bind(cache, {"velocity": velocity()})
    feeds = inputs(trunk, ("cache_",))
    with pytest.raises(ValueError, match=r"dit_step.onnx: cos_q is float32\[1, 2\], wanted"):
        binding.run({**feeds, "cos_q": np.zeros((1, 2), np.float32)})
    with pytest.raises(ValueError, match="sin_q is float64"):
        binding.run({**feeds, "sin_q": feeds["sin_q"].astype(np.float64)})
    del feeds["modulation"]
    with pytest.raises(ValueError, match=r"got inputs .* wanted .*'modulation'"):
        binding.run(feeds)


def test_a_missing_graph_says_how_to_make_it(tmp_path: Path) -> None:
    """The traceback of the runtime doesn't help an operator."""
    with pytest.raises(FileNotFoundError, match="make repository"):
        Engine(tmp_path / "dit_step.onnx")
