"""The DiT's trunk with random weights in bf16, and one session's cache: a denoising step whose
numbers mean nothing, and whose time does.
"""

from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from benchmarks.gpu_experiment.in_place import run_in_place
from networks.dit import DiT, DiTStep
from networks.graph_inputs import dtype_of, step_inputs
from networks.presets import PRESETS, Preset

Network = TypeVar("Network", bound=nn.Module)
DTYPE = torch.bfloat16


def preset_of(is_miniature: bool, num_layers: int | None = None) -> Preset:
    """14B with all its layers or the first few; in miniature two layers of the demo."""
    preset = PRESETS["demo" if is_miniature else "14b"]
    num_layers = 2 if is_miniature else num_layers or preset.dit.num_layers
    injected = tuple(layer for layer in preset.dit.inject_layers if layer < num_layers)
    dit = replace(preset.dit, num_layers=num_layers, inject_layers=injected)
    return replace(preset, dit=dit, pipeline=replace(preset.pipeline, num_layers=num_layers))


class Trunk:
    """A step of one session on a device."""

    def __init__(self, preset: Preset, device: str) -> None:
        run_in_place()
        self.preset, self.config = preset, preset.pipeline
        with torch.device("meta"):
            dit = DiT(preset.dit)
        self.dit = randomised(dit.to(DTYPE).to_empty(device=device))
        self.step = DiTStep(self.dit)
        self.inputs = {
            name: torch.randn(shape, dtype=DTYPE, device=device)
            for name, shape in step_inputs(self.config).items()
            if dtype_of(name).is_floating_point
        }
        start = self.config.num_sink_tokens
        self.inputs["write_index"] = torch.full((1,), start, dtype=torch.int64, device=device)

    def num_keys(self, num_blocks: int) -> int:
        """Of the sink and so many blocks."""
        return self.config.num_sink_tokens + num_blocks * self.config.tokens_per_block

    @torch.inference_mode()
    def run(self, num_blocks: int | None = None) -> Tensor:
        """The velocity of a block that sees the sink and so many blocks, None: a full cache."""
        seen = self.num_keys(num_blocks or self.config.window_blocks)
        tables = {name: self.inputs[name][:, :seen] for name in ("cos_k", "sin_k")}
        velocity: Tensor = self.step(**{**self.inputs, **tables})[0]
        return velocity

    @torch.inference_mode()
    def fill(self) -> Tensor:
        """The pass that fills the sink: one frame of the sink's tokens, which see one another."""
        given, tokens = dict(self.inputs), self.config.num_sink_tokens
        for name in ("tokens", "cos_q", "sin_q"):
            size = given[name].shape[-1]
            given[name] = given[name].reshape(1, -1, size)[:, :tokens]
        given["actor_mask"] = given["actor_mask"].reshape(1, 1, -1, 1)[:, :, :tokens]
        for name in ("audio_local", "audio_global"):
            given[name] = given[name][:, :1]
        for name in ("cos_k", "sin_k"):
            given[name] = given[name][:, :tokens]
        given["write_index"] = given["write_index"] - tokens
        velocity: Tensor = self.step(**given)[0]
        return velocity

    def num_bytes(self, *prefixes: str) -> int:
        """Of the session's tensors whose names begin so."""
        return sum(t.nbytes for name, t in self.inputs.items() if name.startswith(prefixes))


def randomised(network: Network) -> Network:
    """Weights that keep activations at the size of their inputs: zeros would draw less power, and
    a GPU that draws less runs faster."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(False)
        if name.endswith("bias"):
            parameter.zero_()
        elif parameter.ndim == 1:
            parameter.fill_(1)
        else:
            parameter.normal_(std=parameter[0].numel() ** -0.5)
    return network.eval()
