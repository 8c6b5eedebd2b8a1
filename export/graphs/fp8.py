"""The DiT's linear layers in 8-bit floats, e4m3 (arXiv 2209.05433; docs/method.md section 7).

One scale per tensor: fixed for a weight, measured at every call for its input. In the graph these
are QuantizeLinear and DequantizeLinear around each matrix product, which an engine fuses.
"""

from collections.abc import Iterable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.checkpoint.files import TensorInfo, Weights
from networks.layers import OPSET

E4M3 = torch.float8_e4m3fn
LARGEST = 448.0
"""Largest number of e4m3; also the largest factor by which the release scales numbers up."""
SMALLEST_RANGE = 1e-12
KEPT = ("text_embedding.", "time_embedding.", "time_projection.", "head.", "casual_audio_encoder.")
"""Parts of the DiT whose linear layers stay as they are."""
SCALE = "_scale"
_FLOAT8E4M3FN = 17  # onnx.TensorProto's number for it


def dequant_scale(largest: Tensor) -> Tensor:
    """What an 8-bit number is multiplied with, from the largest magnitude of its tensor."""
    return 1 / (LARGEST / largest.clamp(min=SMALLEST_RANGE)).clamp(max=LARGEST)


def quantize(x: Tensor, scale: Tensor) -> Tensor:
    """x / scale rounded to e4m3; what lies beyond ±448 becomes ±448. `scale` is a scalar."""
    if torch.onnx.is_in_onnx_export():
        attributes = {"output_dtype": _FLOAT8E4M3FN}
        return _symbolic("QuantizeLinear", [x, scale], E4M3, attributes)
    return (x / scale).clamp(-LARGEST, LARGEST).to(E4M3)


def dequantize(x: Tensor, scale: Tensor) -> Tensor:
    """x * scale in the scale's element type."""
    if torch.onnx.is_in_onnx_export():
        return _symbolic("DequantizeLinear", [x, scale], scale.dtype, {})
    return x.to(scale.dtype) * scale


def _symbolic(
    name: str, inputs: list[Tensor], dtype: torch.dtype, attributes: Mapping[str, int]
) -> Tensor:
    shape = inputs[0].shape
    return torch.onnx.ops.symbolic(
        name, inputs, dict(attributes), dtype=dtype, shape=shape, version=OPSET
    )


class Fp8Linear(nn.Module):
    """A linear layer whose weight is e4m3 and whose input is rounded to e4m3 on the way in."""

    def __init__(self, like: nn.Linear) -> None:
        """An empty layer of the same sizes, bias and result in the element type of `like`."""
        super().__init__()
        dtype = like.weight.dtype
        empty = torch.empty(like.weight.shape, dtype=E4M3)
        self.weight = nn.Parameter(empty, requires_grad=False)
        self.weight_scale = nn.Parameter(torch.ones((), dtype=dtype), requires_grad=False)
        self.bias = like.bias

    def forward(self, x: Tensor) -> Tensor:
        scale = dequant_scale(x.abs().max())
        rounded = dequantize(quantize(x, scale), scale)
        return F.linear(rounded, dequantize(self.weight, self.weight_scale), self.bias)


def fp8_layers(dit: nn.Module) -> list[str]:
    """Names of the linear layers that become 8 bits wide."""
    return [
        name
        for name, module in dit.named_modules()
        if isinstance(module, nn.Linear) and not f"{name}.".startswith(KEPT)
    ]


def make_fp8(dit: nn.Module) -> None:
    """Put an empty Fp8Linear in the place of each of `fp8_layers`."""
    for name in fp8_layers(dit):
        dit.set_submodule(name, Fp8Linear(dit.get_submodule(name)))  # type: ignore[arg-type]


class Fp8Weights:
    """Weights with those of `layers` in e4m3, each followed by its `<key>_scale`.

    Numbers are converted whenever they are read. A scale is stored in `scale_dtype` and the weight
    is divided by what was stored.
    """

    def __init__(self, source: Weights, layers: Iterable[str], scale_dtype: torch.dtype) -> None:
        self.source, self.files, self._scale_dtype = source, source.files, scale_dtype
        self._narrow = {f"{layer}.weight" for layer in layers}
        infos: dict[str, TensorInfo] = {}
        for key, info in source.infos.items():
            infos[key] = info
            if key in self._narrow:
                infos[key] = TensorInfo(dtype=E4M3, shape=info.shape)
                infos[key + SCALE] = TensorInfo(dtype=scale_dtype, shape=())
        self.infos = infos

    def chunks(self, key: str) -> Iterator[Tensor]:
        if key.endswith(SCALE) and key.removesuffix(SCALE) in self._narrow:
            yield self._scale(key.removesuffix(SCALE))
        elif key in self._narrow:
            scale = self._scale(key).float()
            yield from (quantize(rows.float(), scale) for rows in self.source.chunks(key))
        else:
            yield from self.source.chunks(key)

    def _scale(self, key: str) -> Tensor:
        largest = [rows.abs().amax().float() for rows in self.source.chunks(key)]
        return dequant_scale(torch.stack(largest).amax()).to(self._scale_dtype)
