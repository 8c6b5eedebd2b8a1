"""A graph with two optimisation profiles: a step that sees a growing cache, and the sink's pass."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from export.engines.packages import is_installed
from export.engines.profiles import hull, ranges_of
from export.graphs.graph import Graph
from export.graphs.onnx_file import export_graph
from networks.layers import attend, rotate, write_cache
from networks.presets import PRESETS
from pipeline.config.avatar import PipelineConfig

CONFIG = PipelineConfig.load(Path(__file__).parents[3] / "artifacts/demo/pipeline.json")
N, D, PATCH = CONFIG.num_heads, CONFIG.head_dim, 4


def test_a_step_has_one_profile_for_blocks_and_one_for_the_sink() -> None:
    """At the released sizes: 1056 tokens a frame, a sink of 2640, a block of 3168."""
    config = PRESETS["14b"].pipeline
    step, fill = ranges_of("dit_step", config)
    assert step["frames"] == (3, 3, 3)
    assert step["frame_tokens"] == (1056, 1056, 1056)
    assert step["keys"] == (2640 + 3168, 15312, 15312)
    assert fill["frames"] == (1, 1, 1)
    assert fill["frame_tokens"] == fill["keys"] == (2640, 2640, 2640)
    assert step["actors"] == fill["actors"] == (1, 1, 1)
    assert hull([step, fill])["frame_tokens"] == (1056, 1056, 2640)
    assert hull([step, fill])["keys"] == (2640, 15312, 15312)


def test_every_other_graph_has_one_profile() -> None:
    """A second one would double the tactics that a build has to try."""
    for name in ("dit_embed", "dit_sink", "dit_text", "audio_encoder", "vae_decoder"):
        assert len(ranges_of(name, CONFIG)) == 1


class Step(nn.Module):
    """A layer of `dit_step` without its weights: write the cache, turn the keys, attend."""

    def forward(
        self,
        tokens: Tensor,
        cos_q: Tensor,
        sin_q: Tensor,
        cos_k: Tensor,
        sin_k: Tensor,
        write_index: Tensor,
        cache_k_0: Tensor,
        cache_v_0: Tensor,
    ) -> tuple[Tensor, ...]:
        frames, length, width = tokens.shape
        x = tokens.reshape(1, -1, N, D).transpose(1, 2)
        k, v = (write_cache(cache, x, write_index) for cache in (cache_k_0, cache_v_0))
        keys = cos_k.shape[1]
        seen = rotate(k[:, :, :keys], cos_k, sin_k)
        turned = rotate(x, cos_q.reshape(1, -1, D // 2), sin_q.reshape(1, -1, D // 2))
        y = attend(turned, seen, v[:, :, :keys]).transpose(1, 2)
        return y.reshape(frames, length, width)[..., :PATCH], k, v


def step_graph() -> Graph:
    half = torch.float16
    frames, length = CONFIG.frames_per_block, CONFIG.tokens_per_frame
    own, seen, cache = (frames, length, D // 2), (1, 500, D // 2), (1, N, CONFIG.cache_len, D)
    queries = {0: "frames", 1: "frame_tokens"}
    inputs = {
        "tokens": torch.zeros(frames, length, N * D, dtype=half),
        **{name: torch.zeros(own, dtype=half) for name in ("cos_q", "sin_q")},
        **{name: torch.zeros(seen, dtype=half) for name in ("cos_k", "sin_k")},
        "write_index": torch.zeros(1, dtype=torch.int64),
        **{name: torch.zeros(cache, dtype=half) for name in ("cache_k_0", "cache_v_0")},
    }
    return Graph(
        name="dit_step",
        module=Step(),
        inputs=inputs,
        output_names=["velocity", "present_k_0", "present_v_0"],
        dynamic={
            **dict.fromkeys(("tokens", "cos_q", "sin_q"), queries),
            **{name: {1: "keys"} for name in ("cos_k", "sin_k")},
        },
        output_axes={"velocity": queries},
    )


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
    graph = export_graph(step_graph(), tmp_path)
    made = builder.build(graph, tmp_path / "dit_step.plan", CONFIG)
    step, fill = ranges_of("dit_step", CONFIG)
    keys = [list(p["cos_k"].min) for p in configs[0].profiles]
    assert keys == [[1, ranges["keys"][0], D // 2] for ranges in (step, fill)]
    tokens = made.inputs["tokens"]
    assert tokens.smallest == (1, step["frame_tokens"][0], N * D)
    assert tokens.largest == (step["frames"][0], fill["frame_tokens"][0], N * D)
    assert made.inputs["cos_k"].smallest[1] == fill["keys"][0]
    assert made.inputs["cos_k"].largest[1] == CONFIG.cache_len
    assert made.outputs["velocity"].largest == (*tokens.largest[:2], PATCH)
