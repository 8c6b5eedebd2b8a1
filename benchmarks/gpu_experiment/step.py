"""C. The 14B step: random weights in bf16 and a whole session's cache, kernel by kernel and as a
CUDA graph, while the ring fills, with and without a mask, and with 8-bit linear layers.
"""

import time
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.gpu_experiment.clock import Clock
from benchmarks.gpu_experiment.phase import Findings
from benchmarks.gpu_experiment.step_parts import measure_parts
from benchmarks.gpu_experiment.trunk import Trunk, preset_of
from export.graphs.fp8 import dequant_scale, fp8_layers, quantize


class ScaledLinear(nn.Module):
    """`export.graphs.fp8.Fp8Linear` as an engine would run it: one product of 8-bit numbers. The
    input's scale is measured at every call, or `fixed`."""

    def __init__(self, like: nn.Linear, fixed: Tensor | None) -> None:
        super().__init__()
        scale = dequant_scale(like.weight.abs().max().float())
        self.weight = quantize(like.weight, scale)
        self.bias, self.scale, self.fixed = like.bias, scale, fixed

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, -2)
        scale = dequant_scale(rows.abs().max().float()) if self.fixed is None else self.fixed
        result = torch._scaled_mm(
            quantize(rows, scale),
            self.weight.T,
            scale_a=scale,
            scale_b=self.scale,
            bias=self.bias,
            out_dtype=x.dtype,
            use_fast_accum=True,
        )
        return result.reshape(*x.shape[:-1], -1)


def narrow(trunk: Trunk, fixed: Tensor | None) -> None:
    """Put 8-bit layers in the place of the wide ones, one after the other."""
    for name in fp8_layers(trunk.dit):
        wide = trunk.dit.get_submodule(name)
        assert isinstance(wide, nn.Linear)
        trunk.dit.set_submodule(name, ScaledLinear(wide, fixed))


def measure(findings: Findings, is_miniature: bool) -> None:
    clock = Clock(findings, is_miniature)
    began = time.perf_counter()
    trunk = Trunk(preset_of(is_miniature), clock.device)
    weights = sum(parameter.nbytes for parameter in trunk.dit.parameters())
    findings.figure("weights_gb", round(weights / 1e9, 3))
    findings.figure("cache_gb", round(trunk.num_bytes("cache_") / 1e9, 3))
    findings.holds("velocity_is_finite", bool(trunk.run().isfinite().all()))
    findings.figure("setup_s", round(time.perf_counter() - began, 1))
    clock.peak("scratch_bytes", trunk.run)
    whole: float | None = None
    for num_blocks in range(1, trunk.config.window_blocks + 1):
        work = partial(trunk.run, num_blocks)
        whole = clock.times(f"eager_ms_{trunk.num_keys(num_blocks)}_keys", work)
        graph = clock.replays(f"graph_ms_{trunk.num_keys(num_blocks)}_keys", work)
        whole = graph or whole
    clock.times("fill_eager_ms", trunk.fill)
    clock.replays("fill_graph_ms", trunk.fill)
    measure_parts(clock, trunk, whole)
    measure_narrow(clock, trunk)
    clock.finish()
    with findings.trying("sustained_tflops"):  # needs packages of export
        from export.checks.estimate import step_flop

        flop = step_flop(trunk.preset)
        findings.figure("step_tflop", round(flop / 1e12, 3))
        findings.figure("sustained_tflops", round(flop / whole / 1e9, 2) if whole else None)


def measure_narrow(clock: Clock, trunk: Trunk) -> None:
    """The step with linear layers in e4m3, and its velocity beside that in bf16."""
    wide = trunk.run().float()
    with clock.findings.trying("fp8_relative_error"):
        narrow(trunk, None)
        error = (trunk.run().float() - wide).std() / wide.std()
        clock.findings.figure("fp8_relative_error", round(float(error), 4))
    clock.times("fp8_eager_ms", trunk.run)
    clock.replays("fp8_graph_ms", trunk.run)
    one = torch.ones((), device=clock.device)
    for module in trunk.dit.modules():
        if isinstance(module, ScaledLinear):
            module.fixed = one
    clock.times("fp8_fixed_scale_eager_ms", trunk.run)
    clock.replays("fp8_fixed_scale_graph_ms", trunk.run)
