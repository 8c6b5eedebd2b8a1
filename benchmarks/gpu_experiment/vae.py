"""D. The VAE of 14B with random weights in bf16: a picture encoded, a stream warmed up, a block
decoded, in three forms of its three-dimensional convolutions; peak memory beside the estimate.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu_experiment.clock import Clock
from benchmarks.gpu_experiment.in_place import run_in_place, windows_of_one
from benchmarks.gpu_experiment.phase import Findings
from benchmarks.gpu_experiment.trunk import DTYPE, randomised
from export.graphs.vae import Decode, Encode, Warmup
from networks.configs import VAEConfig
from networks.presets import PRESETS, Preset
from networks.vae import VAE
from networks.vae_layers import Conv3d

Form = Callable[[Conv3d, Tensor, int, int], Tensor]
MOST_LEVELS = 2.0
"""Of 255, between two forms, on average: bf16 has 8 bits and some thirty convolutions round in
turn, so that single pixels are further apart. Another convolution would be apart by tens."""


def channels_last(conv: Conv3d, x: Tensor, batch: int, stride: int = 1) -> Tensor:
    """The windowed form, pixels outermost: the order that tensor cores want."""
    outputs, _, kernel, side, _ = conv.weight.shape
    if kernel > 1:
        x = windows_of_one(x, batch, kernel, stride)
    weight = conv.weight.transpose(1, 2).reshape(outputs, -1, side, side)
    x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
    return F.conv2d(x, weight, conv.bias, padding=side // 2)


def three_dimensional(conv: Conv3d, x: Tensor, _batch: int, stride: int = 1) -> Tensor:
    """The convolution as the release writes it, on [1, C, T, H, W]; nothing is put side by side."""
    pad = conv.weight.shape[3] // 2
    clip = x.transpose(0, 1)[None].contiguous(memory_format=torch.channels_last_3d)
    weight = conv.weight.contiguous(memory_format=torch.channels_last_3d)
    y = F.conv3d(clip, weight, conv.bias, (stride, 1, 1), (0, pad, pad))
    return y[0].transpose(0, 1)


FORMS: dict[str, Form | None] = {
    "windowed": None,
    "channels_last": channels_last,
    "conv3d": three_dimensional,
}
"""None: as `networks.vae_layers` has it, and as the graphs are exported."""


@contextlib.contextmanager
def formed(form: Form | None) -> Iterator[None]:
    """Every `Conv3d` computes in this form."""
    plain = Conv3d.forward
    if form is not None:
        setattr(Conv3d, "forward", form)  # noqa: B010 - no method of the class
    try:
        yield
    finally:
        setattr(Conv3d, "forward", plain)  # noqa: B010


def preset_of(is_miniature: bool) -> Preset:
    """14B; in miniature a narrow VAE of its kind and a small picture."""
    if not is_miniature:
        return PRESETS["14b"]
    large = PRESETS["14b"]
    pipeline = replace(large.pipeline, height=64, width=64)
    return replace(large, vae=VAEConfig(dim=8, num_res_blocks=1), pipeline=pipeline)


class Passes:
    """Encode, warm-up and decode of one session, on random inputs."""

    def __init__(self, preset: Preset, device: str) -> None:
        run_in_place()
        assert isinstance(preset.vae, VAEConfig)
        c = preset.pipeline
        with torch.device(device):
            vae = randomised(VAE(preset.vae)).to(DTYPE)
        _fix_constants(vae, device)
        random = partial(torch.randn, dtype=DTYPE, device=device)
        size = (c.latent_height, c.latent_width)
        self.image = random(1, 3, c.height, c.width).clamp(-1, 1)
        self.motion = random(1, c.latent_channels, c.warmup_frames, *size)
        self.latent = random(c.latent_shape)
        num_frames = 1 + c.temporal_stride * (c.motion_frames - 1)
        self._encode, self._warm_up, self._decode = (
            Encode(vae, num_frames),
            Warmup(vae),
            Decode(vae),
        )
        states = self.warm_up()
        self.states = {f"state_{i}": state.clone() for i, state in enumerate(states)}

    @torch.inference_mode()
    def encode(self) -> Tensor:
        latents: Tensor = self._encode(self.image)
        return latents

    @torch.inference_mode()
    def warm_up(self) -> tuple[Tensor, ...]:
        states: tuple[Tensor, ...] = self._warm_up(self.motion)
        return states

    @torch.inference_mode()
    def decode(self) -> Tensor:
        frames: Tensor = self._decode(self.latent, **self.states)[0]
        return frames


def _fix_constants(vae: VAE, device: str) -> None:
    """Mean and deviation are made on the host at every call, which cannot be captured."""
    like = torch.empty(0, dtype=DTYPE, device=device)
    for name in ("_mean", "_deviation"):
        number = getattr(vae, name)(like)
        setattr(vae, name, lambda _like, number=number: number)


def measure(findings: Findings, is_miniature: bool) -> None:
    clock = Clock(findings, is_miniature)
    preset = preset_of(is_miniature)
    passes = Passes(preset, clock.device)
    findings.holds("frames_are_not_all_the_same", float(passes.decode().float().std()) > 1)
    frames: dict[str, Tensor] = {}
    for name, form in FORMS.items():
        with findings.trying(f"{name}_levels"), formed(form):
            frames[name] = passes.decode().float()
            if form is not None:
                apart = (frames[name] - frames["windowed"]).abs()
                levels = {"mean": round(float(apart.mean()), 3), "most": int(apart.max())}
                findings.figure(f"{name}_levels", levels)
                findings.holds(f"{name}_equals_windowed", levels["mean"] <= MOST_LEVELS)
            clock.times(f"decode_ms_{name}", passes.decode)
            clock.replays(f"decode_graph_ms_{name}", passes.decode)
            clock.peak(f"decode_peak_bytes_{name}", passes.decode)
            clock.times(f"encode_ms_{name}", passes.encode, is_long=True)
            clock.times(f"warm_up_ms_{name}", passes.warm_up, is_long=True)
    clock.peak("encode_peak_bytes", passes.encode)
    clock.peak("warm_up_peak_bytes", passes.warm_up)
    clock.finish()
    findings.figure("state_bytes_twice", 2 * sum(s.nbytes for s in passes.states.values()))
    with findings.trying("estimated_scratch_bytes"):  # needs packages of export, and time
        from export.checks.estimate import sizes_of

        size = sizes_of(preset, "bf16")["vae_decoder"]
        findings.figure("estimated_state_bytes_twice", size.state)
        findings.figure("estimated_scratch_bytes", size.scratch)
