"""The VAE in ONNX Runtime against the release, in floats and at the fixtures' own picture size.

The served graphs answer in 8-bit frames; these are the same networks without the rounding.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.graphs.graph import Graph, keys_under
from export.graphs.onnx_file import export_graph
from export.graphs.vae import WEIGHTS, Encode, Warmup
from networks.vae import VAE
from tests.golden.avatar.onnx_driver import open_session
from tests.golden.avatar.vae_streams import longest_still, stream_frames, stream_latents
from tests.golden.fixtures import (
    keys_like,
    max_abs,
    needs_golden,
    numbered,
    preset,
    write_weights,
)

pytestmark = needs_golden

TOLERANCE = 1e-4
"""Another library's kernels: five times eager PyTorch's."""

Run = Callable[..., list[np.ndarray]]


class Clip(nn.Module):
    """Encode a clip as it is."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, video: Tensor) -> Tensor:
        return self.vae.encode(video)


class Floats(nn.Module):
    """Decode latents that follow on `state_*`, if any are given."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latent: Tensor, **states: Tensor) -> tuple[Tensor, ...]:
        frames, following = self.vae.decode(latent, list(states.values()) or None)
        return (frames, *following)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Export a module for inputs of these shapes, once, and run it on them."""
    folder = tmp_path_factory.mktemp("vae")
    write_weights(folder)
    sessions = {}

    def export_and_run(module: nn.Module, num_outputs: int = 1, **inputs: Tensor) -> list:
        shapes = tuple(t.shape for t in inputs.values())
        feeds = {name: t.numpy() for name, t in inputs.items()}
        if (known := sessions.get((type(module), shapes))) is not None:
            return known.run(None, feeds)
        graph = Graph(
            name=f"graph_{len(sessions)}",
            module=module,
            inputs={name: torch.zeros_like(tensor) for name, tensor in inputs.items()},
            output_names=[f"output_{i}" for i in range(num_outputs)],
            key_of=keys_under(module, "vae"),
            weights_file=WEIGHTS,
        )
        session = sessions[type(module), shapes] = open_session(export_graph(graph, folder))
        return session.run(None, feeds)

    return export_and_run


def test_a_clip_encodes_as_in_the_release(run: Run, vae: VAE, io: dict[str, Tensor]) -> None:
    """Real video would land elsewhere in latent space."""
    for key in keys_like(io, r"video\d+"):
        (latent,) = run(Clip(vae), video=io[key][None])
        assert max_abs(latent[0], io[f"{key}_latent"]) <= TOLERANCE, key


def test_a_still_encodes_as_in_the_release(run: Run, vae: VAE, io: dict[str, Tensor]) -> None:
    """Reference and motion latents of every session."""
    stills = numbered(io, r"static(\d+)_latent")
    (latent,) = run(Encode(vae, max(stills)), image=io["image"][None, :, 0])
    for key in ("image_latent", *stills.values()):  # the first latents of any still are the same
        assert max_abs(latent[0, :, : io[key].shape[1]], io[key]) <= TOLERANCE, key


def test_blocks_and_the_whole_clip_decode_as_in_the_release(
    run: Run, vae: VAE, io: dict[str, Tensor]
) -> None:
    """The stream's state, its start, and offline = streaming."""
    warmup = longest_still(io)[None, :, : preset().pipeline.warmup_frames]
    blocks, wanted = io["z_blocks"][None], stream_frames(io)
    num_states = len(vae.decode(warmup)[1])
    state = run(Warmup(vae), num_states, motion=warmup)
    whole, *_ = run(Floats(vae), 1 + num_states, latent=torch.cat([warmup, blocks], 2))
    for key, (count,) in keys_like(io, r"stream_warmup_first\d+").items():
        assert max_abs(whole[0, :, :count], io[key]) <= TOLERANCE, key
    tail = torch.cat(wanted, 1)
    assert max_abs(whole[0, :, -tail.shape[1] :], tail) <= TOLERANCE
    for latent, frames in zip(stream_latents(io), wanted, strict=True):
        states = {f"state_{i}": torch.from_numpy(array) for i, array in enumerate(state)}
        got, *state = run(Floats(vae), 1 + num_states, latent=latent, **states)
        assert max_abs(got[0], frames) <= TOLERANCE
