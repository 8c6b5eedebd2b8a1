"""Frames as the networks take them and give them."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from networks.compact_vae import CompactVAE
from networks.vae import VAE
from train.learning.device import moved_to

CPU = torch.device("cpu")
PIECE, HISTORY = 240, 64  # frames encoded together, and before them again; multiples of four


def to_video(frames: np.ndarray, device: torch.device = CPU) -> Tensor:
    """uint8 [..., T, S, S, 3] to float32 [..., 3, T, S, S] in [-1, 1], on `device`."""
    return moved_to(device, torch.from_numpy(frames)).movedim(-1, -4).float() / 127.5 - 1


def to_frames(video: Tensor) -> np.ndarray:
    """float [B, 3, T, S, S] in about [-1, 1] to uint8 [B, T, S, S, 3], rounded as served."""
    pixels = ((video.clamp(-1, 1) + 1) * 127.5).round().byte()
    return pixels.permute(0, 2, 3, 4, 1).contiguous().cpu().numpy()


def decoded(
    vae: CompactVAE | VAE, still: Tensor, latents: Iterable[Tensor]
) -> Iterator[np.ndarray]:
    """Frames of successive latents, as in the served decoder: those of the `still` picture run up
    to the first and are thrown away."""
    _, state = vae.decode(still)
    for latent in latents:
        video, state = vae.decode(latent, state)
        yield to_frames(video)


@torch.no_grad()
def reconstructed(
    vae: CompactVAE | VAE, frames: Callable[[int, int], np.ndarray], length: int
) -> Iterator[np.ndarray]:
    """The first `length` frames of a stream through the VAE and back, piece by piece, uint8
    [B, T, S, S, 3]. frames(start, stop) gives true ones, up to three beyond the end. Pieces have
    more history than the encoder can see, which gives what the whole stream would."""
    state, done = None, 0
    while done < length:
        first = int(done == 0)  # it is a latent of its own
        size = first + min(PIECE, -(-(length - done - first) // 4) * 4)
        before = -1 if first else min(HISTORY, done - 1)
        latent = vae.encode(to_video(frames(done - before - 1, done + size)))
        made, state = vae.decode(latent[:, :, 1 + before // 4 :], state)
        yield to_frames(made)[:, : length - done]
        done += size
