"""The VAE as a text-to-video stream uses it: from its first latent frame, block by block."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from export.onnx_file import export_graph
from export.rolling_vae_graphs import graphs_of
from export.vae_graphs import WEIGHTS, to_uint8
from networks.checkpoint import load_checkpoint, save_checkpoint
from networks.presets import VAEConfig
from networks.rolling_presets import ROLLING_PRESETS
from networks.vae import LATENT_MEAN, LATENT_STD, VAE
from tests.golden.fixtures import max_abs
from tests.golden.onnx_driver import open_session
from tests.golden.rolling_fixtures import arrays, facts, needs_rolling, rolling_file

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


def chunks() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Latent and frames of each chunk of the streamed fixture."""
    frames = [given(f"stream_chunk{i}") for i in range(2)]
    return list(zip(given("latent").split(3, dim=2), frames, strict=True))


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
    """A first block of nine frames, then twelve each, and no seam."""
    whole, _ = vae.decode(given("latent"))
    state, start = None, 0
    for latent, wanted in chunks():
        video, state = vae.decode(latent, state)
        end = start + video.shape[2]
        assert max_abs(video.clamp(-1, 1), wanted) <= TOLERANCE
        assert max_abs(video, whole[:, :, start:end]) <= SEAM
        start = end
    assert start == whole.shape[2] == 4 * given("latent").shape[2] - 3


@torch.inference_mode()
def test_pixels_encode_as_in_the_release(vae: VAE) -> None:
    """What training sees."""
    assert max_abs(vae.encode(given("pixels")), given("encode")) <= TOLERANCE


@pytest.mark.slow  # two exports of a deep network
def test_graphs_stream_as_the_release(vae: VAE, tmp_path: Path) -> None:
    """The first block's graph must leave the state that the other one takes."""
    save_checkpoint(vae, tmp_path / WEIGHTS)
    latent = given("latent")
    stream = dataclasses.replace(
        ROLLING_PRESETS["rolling-1.3b"].stream,
        height=8 * latent.shape[3],
        width=8 * latent.shape[4],
    )
    first, later = (open_session(export_graph(graph, tmp_path)) for graph in graphs_of(vae, stream))
    states = [i.name for i in later.get_inputs() if i.name != "latent"]
    feeds: dict = {}
    for session, (latent, wanted) in zip((first, later), chunks(), strict=True):
        frames, *next_states = session.run(None, {"latent": latent.numpy(), **feeds})
        wanted = to_uint8(wanted[0].permute(1, 2, 3, 0))
        assert max_abs(frames, wanted) <= 1  # rounding
        feeds = dict(zip(states, next_states, strict=True))
