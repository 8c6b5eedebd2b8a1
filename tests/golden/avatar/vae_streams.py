"""The streamed clip of `vae_io`: its latents and frames block by block, however many there are."""

from torch import Tensor

from tests.golden.fixtures import numbered


def longest_still(io: dict[str, Tensor]) -> Tensor:
    """Latents [C, t, h, w] of the longest clip of one picture."""
    *_, key = numbered(io, r"static(\d+)_latent").values()
    return io[key]


def stream_frames(io: dict[str, Tensor]) -> list[Tensor]:
    """Frames [3, T, H, W] of each block, in order."""
    keys = numbered(io, r"stream_block(\d+)_frames")
    assert list(keys) == list(range(len(keys))), f"blocks {list(keys)}: one is missing"
    assert keys, "no streamed blocks"
    return [io[key] for key in keys.values()]


def stream_latents(io: dict[str, Tensor]) -> list[Tensor]:
    """Latents [1, C, t, h, w] of each block; blocks may differ in length."""
    z, frames = io["z_blocks"][None], stream_frames(io)
    squeezed = sum(video.shape[1] for video in frames) // z.shape[2]
    return list(z.split([video.shape[1] // squeezed for video in frames], dim=2))
