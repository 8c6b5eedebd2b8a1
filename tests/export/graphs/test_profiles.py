"""A graph with two optimisation profiles: a step that sees a growing cache, and the sink's pass."""

from pathlib import Path
from typing import Any

import pytest
import torch

from export.engines.packages import is_installed
from export.engines.profiles import hull, ranges_of
from export.graphs.onnx_file import export_graph
from networks.presets import PRESETS
from pipeline.config.avatar import PipelineConfig
from tests.export.engines.step_graph import PATCH, step_graph

CONFIG = PipelineConfig.load(Path(__file__).parents[3] / "artifacts/demo/pipeline.json")
WIDTH, PAIRS = CONFIG.num_heads * CONFIG.head_dim, CONFIG.head_dim // 2


def test_a_step_has_one_profile_for_blocks_and_one_for_the_sink() -> None:
    """At the released sizes: 1056 tokens a frame, a sink of 2640, a block of 3168."""
    config = PRESETS["14b"].pipeline
    step, fill = ranges_of("dit_step", config)
    assert step["frames"] == (3, 3, 3)
    assert step["frame_tokens"] == (1056, 1056, 1056)
    assert step["keys"] == (2640 + 3168, 15312, 15312)
    assert fill["frames"] == (1, 1, 1)
    assert fill["frame_tokens"] == fill["keys"] == (2640, 2640, 2640)
    assert (step["actors"], fill["actors"]) == ((1, 1, config.max_actors), (1, 1, 1))
    assert hull([step, fill])["frame_tokens"] == (1056, 1056, 2640)
    assert hull([step, fill])["keys"] == (2640, 15312, 15312)


def test_every_other_graph_has_one_profile() -> None:
    """A second one would double the tactics that a build has to try."""
    for name in ("dit_embed", "dit_sink", "dit_text", "audio_encoder", "vae_decoder"):
        assert len(ranges_of(name, CONFIG)) == 1


@pytest.mark.skipif(not is_installed(), reason="no TensorRT-RTX; python -m export.engines.packages")
def test_both_profiles_build_with_the_attention_in_one_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slice of the updated cache, whose length is open, must neither copy nor unfuse."""
    from export.engines.build import EngineBuilder, Target

    builder = EngineBuilder(Target(rtx=True, compute_capabilities=((8, 9),)))
    from polygraphy.backend import trt as polygraphy_trt

    configs, build = [], polygraphy_trt.engine_bytes_from_network

    def kept(*network: Any, config: Any, **options: Any) -> Any:
        configs.append(config)
        return build(*network, config=config, **options)

    monkeypatch.setattr(polygraphy_trt, "engine_bytes_from_network", kept)
    graph = export_graph(step_graph(CONFIG, torch.float16), tmp_path)
    made = builder.build(graph, tmp_path / "dit_step.plan", CONFIG)
    step, fill = ranges_of("dit_step", CONFIG)
    keys = [list(p["cos_k"].min) for p in configs[0].profiles]
    assert keys == [[1, ranges["keys"][0], PAIRS] for ranges in (step, fill)]
    tokens = made.inputs["tokens"]
    assert tokens.smallest == (1, step["frame_tokens"][0], WIDTH)
    assert tokens.largest == (step["frames"][0], fill["frame_tokens"][0], WIDTH)
    assert made.inputs["cos_k"].smallest[1] == fill["keys"][0]
    assert made.inputs["cos_k"].largest[1] == CONFIG.cache_len
    assert made.outputs["velocity"].largest == (*tokens.largest[:2], PATCH)
