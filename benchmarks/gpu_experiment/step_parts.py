"""Where a step's time goes: its parts alone, each as often as a step has it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu_experiment.clock import Clock
from benchmarks.gpu_experiment.in_place import write_in_place
from benchmarks.gpu_experiment.trunk import DTYPE, Trunk
from export.graphs.fp8 import E4M3
from networks.block import Block
from networks.layers import attend, modulated_norm, rotate

BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
"""Kernels of attention that torch has; TensorRT's own is another one."""


class Parts:
    """The parts of one layer on tensors of the step's sizes."""

    def __init__(self, trunk: Trunk, device: str) -> None:
        c = trunk.config
        self.inputs, self.dit, self.config = trunk.inputs, trunk.dit, c
        block = trunk.dit.get_submodule("blocks.0")
        assert isinstance(block, Block)
        self.block = block
        random = partial(torch.randn, dtype=DTYPE, device=device)
        dim = c.num_heads * c.head_dim
        self.x = random(c.tokens_per_block, dim)
        self.hidden = random(c.tokens_per_block, trunk.preset.dit.ffn_dim)
        self.q = random(1, c.num_heads, c.tokens_per_block, c.head_dim)
        self.k, self.v = self.inputs["cache_k_0"], self.inputs["cache_v_0"]
        self.mask = torch.ones(
            1, 1, c.tokens_per_block, c.cache_len, dtype=torch.bool, device=device
        )

    def products(self) -> None:
        """Every linear layer of a block, but those of the prompt's K and V."""
        own, cross, ffn = self.block.self_attn, self.block.cross_attn, self.block.ffn
        for linear in (own.q, own.k, own.v, own.o, cross.q, cross.o, ffn[0]):
            linear(self.x)
        ffn[2](self.hidden)

    def narrow_products(self) -> Callable[[], None]:
        """The same products of numbers that are e4m3 already."""
        own, cross, ffn = self.block.self_attn, self.block.cross_attn, self.block.ffn
        linears = (own.q, own.k, own.v, own.o, cross.q, cross.o, ffn[0])
        one = torch.ones((), device=self.x.device)
        pairs: list[tuple[Tensor, Any]] = [(self.x, linear.weight) for linear in linears]
        pairs.append((self.hidden, ffn[2].weight))
        narrow = [(x.to(E4M3), weight.to(E4M3)) for x, weight in pairs]

        def work() -> None:
            for x, weight in narrow:
                torch._scaled_mm(x, weight.T, one, one, out_dtype=DTYPE, use_fast_accum=True)

        return work

    def attention(self, mask: Tensor | None = None) -> Tensor:
        return attend(self.q, self.k, self.v, mask)

    def cross_attention(self) -> Tensor:
        return attend(self.q, self.inputs["text_k_0"], self.inputs["text_v_0"])

    def rotated_keys(self) -> Tensor:
        return rotate(self.k, self.inputs["cos_k"], self.inputs["sin_k"])

    def rotated_queries(self) -> Tensor:
        cos, sin = (self.inputs[name].flatten(0, 1)[None] for name in ("cos_q", "sin_q"))
        return rotate(self.q, cos, sin)

    def norms(self) -> None:
        own, row = self.block.self_attn, self.inputs["modulation"][0]
        modulated_norm(self.x, row[0], row[1], self.block.eps)
        modulated_norm(self.x, row[3], row[4], self.block.eps)
        self.block.norm3(self.x)
        for norm in (own.norm_q, own.norm_k, self.block.cross_attn.norm_q):
            norm(self.x)

    def activation(self) -> Tensor:
        result: Tensor = self.block.ffn[1](self.hidden)
        return result

    def cache_writes(self) -> None:
        for cache in (self.k, self.v):
            write_in_place(cache, self.q, self.inputs["write_index"])

    def audio(self) -> Tensor:
        both = self.inputs["audio_local"], self.inputs["audio_global"]
        result: Tensor = self.dit.get_submodule("audio_injector")(
            0, self.x, both, self.inputs["actor_mask"].flatten(1, 2)
        )
        return result


def measure_parts(clock: Clock, trunk: Trunk, whole: float | None) -> None:
    """A figure for each part: milliseconds of a layer. And their shares of a step of `whole`
    milliseconds; what they lack to 1 is residuals, gates, and what starting kernels costs."""
    parts = Parts(trunk, clock.device)
    layers, injected = trunk.preset.dit.num_layers, len(trunk.preset.dit.inject_layers)
    counts: dict[str, tuple[Callable[[], object], int]] = {
        "products": (parts.products, layers),
        "attention": (parts.attention, layers),
        "cross_attention": (parts.cross_attention, layers),
        "rotated_keys": (parts.rotated_keys, layers),
        "rotated_queries": (parts.rotated_queries, layers),
        "norms": (parts.norms, layers),
        "activation": (parts.activation, layers),
        "cache_writes": (parts.cache_writes, layers),
        "audio": (parts.audio, injected),
    }
    found = {
        name: (clock.alone(f"layer_ms_{name}", inferring(work)), count)
        for name, (work, count) in counts.items()
    }
    if whole:
        shares = {n: round(ms * count / whole, 4) for n, (ms, count) in found.items() if ms}
        clock.findings.figure("shares_of_a_step", shares)
    with clock.findings.trying("layer_ms_products_fp8"):
        clock.alone("layer_ms_products_fp8", parts.narrow_products())
    masked = inferring(partial(parts.attention, parts.mask))
    clock.alone("layer_ms_masked_attention", masked)
    for name, backend in BACKENDS.items():
        with sdpa_kernel(backend):
            clock.alone(f"layer_ms_attention_{name}", inferring(parts.attention))
            clock.alone(f"layer_ms_masked_attention_{name}", masked)


def inferring(work: Callable[[], object]) -> Callable[[], object]:
    """The work without autograd's records."""
    decorated: Callable[[], object] = torch.inference_mode()(work)
    return decorated
