"""Who sees whom in a whole clip: masks of the forwards without a cache.

F latent frames   S tokens of a frame   L = F * S tokens
"""

import torch
from torch import Tensor


def block_causal(
    num_frames: int,
    frames_per_block: int,
    tokens_per_frame: int,
    local_frames: int | None = None,
) -> Tensor:
    """bool [1, 1, L, L]: a token sees the tokens of its own block and of those before it.

    With `local_frames` only the last so many frames up to the end of its own block.
    """
    block = torch.arange(num_frames) // frames_per_block
    seen = block[:, None] >= block[None]
    if local_frames is not None:
        first = (block + 1) * frames_per_block - local_frames
        seen &= torch.arange(num_frames)[None] >= first[:, None]
    return _by_token(seen, tokens_per_frame)


def teacher_forcing(
    num_frames: int,
    frames_per_block: int,
    tokens_per_frame: int,
) -> Tensor:
    """bool [1, 1, 2L, 2L] of [clean | noisy]: clean blocks are causal among themselves; a noisy
    block sees the clean blocks before it, and itself.
    """
    block = torch.arange(num_frames) // frames_per_block
    before, same = block[:, None] > block[None], block[:, None] == block[None]
    clean = torch.cat([before | same, torch.zeros_like(same)], dim=1)
    noisy = torch.cat([before, same], dim=1)
    return _by_token(torch.cat([clean, noisy]), tokens_per_frame)


def _by_token(seen: Tensor, tokens_per_frame: int) -> Tensor:
    rows = seen.repeat_interleave(tokens_per_frame, 0)
    return rows.repeat_interleave(tokens_per_frame, 1)[None, None]
