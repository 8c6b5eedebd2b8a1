"""8-bit linear layers against the release's bits, in PyTorch and in ONNX Runtime."""

from pathlib import Path

import numpy as np
import pytest
import torch

from export.graphs.fp8 import E4M3, Fp8Linear, dequant_scale, fp8_layers, quantize
from export.graphs.graph import Graph
from export.graphs.onnx_file import export_graph
from networks.checkpoint import save_tensors
from networks.dit import DiT
from networks.presets import PRESETS
from tests.golden.avatar.onnx_driver import open_session
from tests.golden.fixtures import max_abs, needs_golden, tensors

OUT_TOLERANCE = 1e-4
"""The fixtures' own, for a float32 product of the rounded numbers."""


@needs_golden
@pytest.mark.parametrize("name", ["w", "x"])
def test_bits_and_scales_equal_the_release_s(name: str) -> None:
    """A checkpoint quantised here would not be the release's."""
    fixture = tensors("fp8")
    scale = dequant_scale(fixture[name].abs().amax())
    assert torch.equal(scale.reshape(1), fixture[f"{name}_dequant_scale"])
    bits = quantize(fixture[name], scale).view(torch.uint8)
    assert torch.equal(bits, fixture[f"{name}_fp8_bits"])


@pytest.fixture(scope="module")
def layer() -> Fp8Linear:
    fixture = tensors("fp8")
    layer = Fp8Linear(torch.nn.Linear(*reversed(fixture["w"].shape)))
    state = {
        "weight": fixture["w_fp8_bits"].view(E4M3),
        "weight_scale": fixture["w_dequant_scale"][0],
        "bias": fixture["bias"],
    }
    layer.load_state_dict(state, assign=True)
    return layer.eval().requires_grad_(False)


@needs_golden
def test_the_graph_s_product_equals_the_release_s(layer: Fp8Linear, tmp_path: Path) -> None:
    """QuantizeLinear would round otherwise, or a scale would be applied twice or not at all."""
    fixture = tensors("fp8")
    save_tensors(layer.state_dict(), tmp_path / "layer.safetensors")
    names = list(layer.state_dict())
    graph = Graph(
        name="layer",
        module=layer,
        inputs={"x": torch.zeros_like(fixture["x"])},
        output_names=["y"],
        weights_file="layer.safetensors",
        key_of={name: name for name in names},
    )
    session = open_session(export_graph(graph, tmp_path))
    (got,) = session.run(None, {"x": fixture["x"].numpy()})
    assert max_abs(got, fixture["out_float32"]) <= OUT_TOLERANCE
    assert max_abs(layer(fixture["x"]), fixture["out_float32"]) <= OUT_TOLERANCE
    assert np.abs(got).max() > 100 * OUT_TOLERANCE  # the bound would see an error


def test_which_layers_of_the_14b_network_become_8_bits_wide() -> None:
    """Section 11: all linear layers but those of text, time, head and the audio encoder."""
    with torch.device("meta"):
        layers = fp8_layers(DiT(PRESETS["14b"].dit))
    assert len(layers) == 40 * 10 + 12 * 4 + 12
    kinds = {".".join(part for part in name.split(".") if not part.isdigit()) for name in layers}
    projections = {f"{attn}.{p}" for attn in ("self_attn", "cross_attn") for p in "qkvo"}
    assert kinds == {
        *(f"blocks.{projection}" for projection in projections),
        *(f"audio_injector.injector.{p}" for p in "qkvo"),
        "blocks.ffn",
        "audio_injector.injector_adain_layers.linear",
    }
