"""The VAE as a text-to-video stream uses it: from its first latent frame, block by block."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from export.graphs.onnx_file import export_graph
from export.graphs.vae import WEIGHTS, to_uint8
from export.graphs.vae import rolling_graphs_of as graphs_of
from networks.checkpoint import load_checkpoint, save_checkpoint
from networks.configs import VAEConfig
from networks.rolling_presets import ROLLING_PRESETS
from networks.vae import LATENT_MEAN, LATENT_STD, VAE
from pipeline.config.rolling import RollingConfig
from tests.golden.avatar.onnx_driver import open_session
from tests.golden.fixtures import max_abs, numbered
from tests.golden.rolling.fixtures import arrays, facts, needs_rolling, rolling_file

pytestmark = needs_rolling

TOLERANCE = 5e-5
"""Float32 convolutions in another order, frames in [-1, 1]."""
SEAM = 1e-5
"""Streamed against whole, the same kernels."""


@pytest.fixture(scope="module")
def vae() -> VAE:
    about = facts("vae")
    config = VAEConfig(
        dim=about["dim"],
        z_dim=about["z_dim"],
        dim_mult=tuple(about["dim_mult"]),
        num_res_blocks=about["num_res_blocks"],
        temporal_downsample=tuple(about["temporal_downsample"]),
    )
    return load_checkpoint(VAE(config), rolling_file("vae", "weights.safetensors"))


def given(name: str) -> torch.Tensor:
    """A fixture tensor, frames third as our networks hold them."""
    tensor = torch.from_numpy(arrays("vae", "vae")[name])
    return tensor if name == "pixels" else tensor.transpose(1, 2)


def squeezed() -> int:
    """Video frames of a latent frame, but for a stream's first."""
    return 2 ** sum(facts("vae")["temporal_downsample"])


def chunks() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Latent and frames of each chunk of the streamed fixture, however many there are.

    The first latent of a stream is one frame, each of the others as many as time is squeezed.
    """
    keys = numbered(arrays("vae", "vae"), r"stream_chunk(\d+)")
    assert list(keys) == list(range(len(keys))), "a chunk is missing"
    frames = [given(key) for key in keys.values()]
    sizes = [video.shape[2] // squeezed() for video in frames]
    sizes[0] += 1
    return list(zip(given("latent").split(sizes, dim=2), frames, strict=True))


def test_latents_are_scaled_as_in_the_release() -> None:
    """Colours would drift."""
    assert list(LATENT_MEAN) == facts("vae")["latent_mean"]
    assert list(LATENT_STD) == facts("vae")["latent_std"]


@torch.inference_mode()
def test_a_whole_clip_decodes_as_in_the_release(vae: VAE) -> None:
    """The frames before and after they are clamped."""
    video, _ = vae.decode(given("latent"))
    assert max_abs(video, given("decode_raw_unclamped")) <= TOLERANCE
    assert max_abs(video.clamp(-1, 1), given("decode_full")) <= TOLERANCE


@torch.inference_mode()
def test_streamed_blocks_equal_the_whole_clip_and_the_release(vae: VAE) -> None:
    """A first block of three frames less than the others, and no seam."""
    whole, _ = vae.decode(given("latent"))
    state, start = None, 0
    for latent, wanted in chunks():
        video, state = vae.decode(latent, state)
        end = start + video.shape[2]
        assert max_abs(video.clamp(-1, 1), wanted) <= TOLERANCE
        assert max_abs(video, whole[:, :, start:end]) <= SEAM
        start = end
    assert start == whole.shape[2] == squeezed() * (given("latent").shape[2] - 1) + 1


@torch.inference_mode()
def test_pixels_encode_as_in_the_release(vae: VAE) -> None:
    """What training sees."""
    assert max_abs(vae.encode(given("pixels")), given("encode")) <= TOLERANCE


@pytest.mark.slow  # two exports of a deep network
def test_graphs_stream_as_the_release(vae: VAE, tmp_path: Path) -> None:
    """The first block's graph must leave the state that the other one takes."""
    sessions: dict[tuple[bool, int], Any] = {}
    feeds: dict[str, Any] = {}
    for i, (latent, wanted) in enumerate(chunks()):
        kind = (i == 0, latent.shape[2])
        if kind not in sessions:
            folder = tmp_path / f"{i}"
            folder.mkdir()
            save_checkpoint(vae, folder / WEIGHTS)
            graph = graphs_of(vae, stream_of(latent, wanted))[0 if i == 0 else 1]
            sessions[kind] = open_session(export_graph(graph, folder))
        frames, *states = sessions[kind].run(None, {"latent": latent.numpy(), **feeds})
        assert max_abs(frames, to_uint8(wanted[0].permute(1, 2, 3, 0))) <= 1  # rounding
        names = [o.name for o in sessions[kind].get_outputs()][1:]
        feeds = {
            name.removeprefix("next_"): state for name, state in zip(names, states, strict=True)
        }


def stream_of(latent: torch.Tensor, frames: torch.Tensor) -> RollingConfig:
    """A stream whose blocks have these sizes."""
    size, (height, width) = latent.shape[2], frames.shape[3:]
    return dataclasses.replace(
        ROLLING_PRESETS["rolling-1.3b"].stream,
        frames_per_block=size,
        span_frames=7 * size,
        sink_frames=size,
        height=height,
        width=width,
    )
