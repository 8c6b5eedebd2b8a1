"""The VAE's graphs of both systems.

The avatar's decoder is warmed up with motion latents and has whole blocks ever after. A
text-to-video stream begins with nothing: its first latent frame is one video frame, so that the
first block gives three frames less than those that follow.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from export.graphs.graph import Graph, network_graph
from networks.checkpoint import load_checkpoint
from networks.compact_vae import CompactVAE, build_vae
from networks.configs import CompactVAEConfig, VAEConfig
from networks.presets import Preset
from networks.vae import VAE
from pipeline.config.avatar import PipelineConfig
from pipeline.config.rolling import RollingConfig

WEIGHTS = "vae.safetensors"


class Encode(nn.Module):
    """Encode a picture as a still clip of 1 + 4 (motion_frames - 1) video frames."""

    def __init__(self, vae: VAE | CompactVAE, num_frames: int) -> None:
        super().__init__()
        self.vae = vae
        self.num_frames = num_frames

    def forward(self, image: Tensor) -> Tensor:
        return self.vae.encode(image.unsqueeze(2), self.num_frames)


class Warmup(nn.Module):
    """Decode the first motion latents from the start of a stream, for the state they leave."""

    def __init__(self, vae: VAE | CompactVAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, motion: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.vae.decode(motion)[1])


class Decode(nn.Module):
    """Decode one block to 8-bit frames [T, H, W, 3]; without `state_*` the first of a stream."""

    def __init__(self, vae: VAE | CompactVAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latent: Tensor, **states: Tensor) -> tuple[Tensor, ...]:
        video, next_states = self.vae.decode(latent, list(states.values()) or None)
        return (to_uint8(video[0].permute(1, 2, 3, 0)), *next_states)


class Pose(nn.Module):
    """Encode 8-bit frames [T, H, W, 3] of a pose video; without `state_*` the first of a clip."""

    def __init__(self, vae: VAE | CompactVAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, frames: Tensor, **states: Tensor) -> tuple[Tensor, ...]:
        dtype = next(self.vae.parameters()).dtype
        video = frames.to(dtype) / 127.5 - 1  # at once: TensorRT moves no bytes about
        video = video.permute(3, 0, 1, 2)[None]
        latent, next_states = self.vae.encode_on(video, list(states.values()) or None)
        return (latent, *next_states) if states else tuple(next_states)


def to_uint8(frames: Tensor) -> Tensor:
    """[-1, 1] to 0..255, rounded; what lies outside is clamped."""
    return ((frames.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def example_states(vae: VAE | CompactVAE, first: torch.Size) -> dict[str, Tensor]:
    """Zeros in the shapes of the state that latents of shape `first` leave; nothing is computed."""
    return _states(lambda: vae.decode(torch.zeros(first)))


def _states(run: Callable[[], tuple[Tensor, list[Tensor]]]) -> dict[str, Tensor]:
    """Zeros in the shapes of the state that a pass leaves."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        shapes = [state.shape for state in run()[1]]
    return {f"state_{j}": torch.zeros(shape) for j, shape in enumerate(shapes)}


def graphs(preset: Preset, weights_dir: Path) -> list[Graph]:
    """The avatar's `vae_encoder`, `vae_decoder_warmup`, `vae_decoder`, and those of `Pose`."""
    vae = load_checkpoint(build_vae(preset.vae), weights_dir / WEIGHTS)
    config = preset.pipeline
    num_frames = 1 + config.temporal_stride * (config.motion_frames - 1)
    height, width = config.latent_height, config.latent_width
    motion = torch.zeros(1, config.latent_channels, config.warmup_frames, height, width)
    states = example_states(vae, motion.shape)
    image = torch.zeros(1, 3, config.height, config.width)
    next_states = [f"next_{name}" for name in states]
    warmup = {"motion": motion}
    return [
        network_graph(
            "vae_encoder", Encode(vae, num_frames), "vae", {"image": image}, ["motion"], WEIGHTS
        ),
        network_graph("vae_decoder_warmup", Warmup(vae), "vae", warmup, next_states, WEIGHTS),
        _decoder("vae_decoder", vae, torch.zeros(config.latent_shape), states, next_states),
        *_pose_graphs(vae, config),
    ]


def _pose_graphs(vae: VAE | CompactVAE, config: PipelineConfig) -> list[Graph]:
    """`pose_encoder` and `pose_encoder_start`: a clip's first frame, for the state it leaves."""
    size = config.height, config.width, 3
    first = torch.zeros(1, *size, dtype=torch.uint8)
    block = torch.zeros(config.video_frames_per_block, *size, dtype=torch.uint8)
    states = _states(lambda: vae.encode_on(torch.zeros(1, 3, 1, *size[:2])))
    following = [f"next_{name}" for name in states]
    pose, inputs = Pose(vae), {"frames": block, **states}
    return [
        network_graph("pose_encoder", pose, "vae", inputs, ["pose", *following], WEIGHTS),
        network_graph("pose_encoder_start", pose, "vae", {"frames": first}, following, WEIGHTS),
    ]


def rolling_graphs(
    sizes: VAEConfig | CompactVAEConfig, config: RollingConfig, weights_dir: Path
) -> list[Graph]:
    """As `rolling_graphs_of`, with the weights of `weights_dir/vae.safetensors`."""
    return rolling_graphs_of(load_checkpoint(build_vae(sizes), weights_dir / WEIGHTS), config)


def rolling_graphs_of(vae: VAE | CompactVAE, config: RollingConfig) -> list[Graph]:
    """`vae_decoder_first` and `vae_decoder`; `vae` bears the weights of vae.safetensors."""
    latent = torch.zeros(config.latent_shape)
    states = example_states(vae, latent.shape)
    next_states = [f"next_{name}" for name in states]
    return [
        _decoder("vae_decoder_first", vae, latent, {}, next_states),
        _decoder("vae_decoder", vae, latent, states, next_states),
    ]


def _decoder(
    name: str,
    vae: VAE | CompactVAE,
    latent: Tensor,
    states: dict[str, Tensor],
    next_states: list[str],
) -> Graph:
    inputs, outputs = {"latent": latent, **states}, ["frames", *next_states]
    return network_graph(name, Decode(vae), "vae", inputs, outputs, WEIGHTS)
