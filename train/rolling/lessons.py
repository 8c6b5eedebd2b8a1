"""What a step of the teacher's training learns from: noisy pieces of scenes, and prompts.

Most pieces have one noise level: a bidirectional teacher of whole clips. In the others each block
has its own (Diffusion Forcing, arXiv 2407.01392): by chance, or as in a window, clean blocks first
and then rising noise. So the network knows the timesteps that its students begin with.

B pieces   n blocks of a piece   F latent frames of a block   C channels   h, w latent size
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from networks.checkpoint import load_checkpoint
from networks.text_encoder import TextEncoder
from networks.text_encoder import module_key as text_key
from pipeline.denoising.schedule import Levels
from pipeline.sessions.text import Tokenizer
from train.network.flow import add_noise, shifted
from train.preset import SCENES
from train.rolling.clips import SceneClips
from train.scenes.words import prompt

Random = np.random.Generator
STREAM = SCENES.stream
SHAPES = ((4, 7), (8, 3), (12, 2))  # pieces and their blocks in a step
SHAPE_WEIGHTS = (0.55, 0.3, 0.15)
WHOLE_SHARE, WINDOW_SHARE = 0.55, 0.25  # of pieces: one level, a window; the others by chance
SINK_SHARE = 0.3  # of pieces from mid-stream, those that begin with their stream's first block
START_SHARE = 0.45  # of pieces that begin their stream
EVEN_SHARE = 0.25  # of noise levels drawn evenly; the others are shifted to high noise
TEXT_DROPOUT = 0.1  # of prompts that are empty, for guidance
REFRESH_STEPS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """A step's input and target."""

    clean: Tensor  # [B, C, n * F, h, w]
    noisy: Tensor  # as `clean`
    sigma: Tensor  # [B, n * F]; 0 where the piece is clean
    text: Tensor  # [B, text_len, text_dim]

    @property
    def timesteps(self) -> Tensor:
        return 1000 * self.sigma

    @property
    def weight(self) -> Tensor:
        """[B, 1, n * F, 1, 1]: 0 where it is clean, less where a velocity cannot be known."""
        weight = self.sigma**2 / (self.sigma**2 + 0.05) + 0.02
        return (weight * (self.sigma > 0))[:, None, :, None, None]

    @property
    def target(self) -> Tensor:
        """The velocity from `clean` to the noise."""
        return (self.noisy - self.clean) / self.sigma.clamp(min=1e-4)[:, None, :, None, None]


class Texts:
    """Prompts to rows of the frozen encoder."""

    def __init__(self, path: Path) -> None:
        """`path`: text_encoder.safetensors."""
        assert SCENES.text is not None
        self.encoder = load_checkpoint(TextEncoder(SCENES.text), path, rename=text_key).eval()
        self.tokenizer = Tokenizer(STREAM, path.parent)

    @torch.no_grad()
    def rows(self, prompts: list[str]) -> Tensor:
        """[B, text_len, text_dim], zero rows after each prompt."""
        found = [self.tokenizer(each) for each in prompts]
        ids, mask = (
            torch.from_numpy(np.concatenate([each[name] for each in found]))
            for name in ("token_ids", "token_mask")
        )
        longest = int(mask.sum(1).max())
        rows = self.encoder(ids[:, :longest], mask[:, :longest])
        return torch.nn.functional.pad(rows, (0, 0, 0, STREAM.text_len - longest))


class Lessons:
    """Lessons from a folder of clips; a lesson follows from the seed, the step and the part."""

    def __init__(self, clips: SceneClips, texts: Texts, seed: int, part: int = 0) -> None:
        self.clips, self.texts, self.seed, self.part = clips, texts, seed, part
        self.refreshed = 0

    @classmethod
    def of(cls, clips: Path, weights: Path, seed: int) -> Self:
        texts = Texts(weights / "text_encoder.safetensors")
        return cls(SceneClips(clips), texts, seed)

    def lesson(self, step: int) -> Lesson:
        if step >= self.refreshed + REFRESH_STEPS:
            self.clips.refresh()
            self.refreshed = step
        common = np.random.default_rng([self.seed, step])
        batch, blocks = SHAPES[common.choice(len(SHAPES), p=SHAPE_WEIGHTS)]
        blocks = min(blocks, self.clips.num_blocks)
        rng = np.random.default_rng([self.seed, step, self.part])
        chosen = rng.choice(len(self.clips), batch, replace=batch > len(self.clips))
        pieces = [
            self.clips.latents(int(i), piece(rng, self.clips.num_blocks, blocks)) for i in chosen
        ]
        clean = torch.stack(pieces)
        sigma = torch.from_numpy(np.stack([block_sigmas(rng, blocks) for _ in chosen]))
        sigma = sigma.repeat_interleave(STREAM.frames_per_block, 1)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        noisy = add_noise(clean, torch.randn(clean.shape, generator=generator), sigma)
        return Lesson(clean=clean, noisy=noisy, sigma=sigma, text=self._text(rng, chosen))

    def _text(self, rng: Random, clips: np.ndarray) -> Tensor:
        told = [prompt(self.clips.words(int(i)), rng)[0] for i in clips]
        return self.texts.rows([p if rng.random() >= TEXT_DROPOUT else "" for p in told])


def piece(rng: Random, num_blocks: int, blocks: int) -> np.ndarray:
    """Numbers of the blocks of a piece [n]: successive, from the start or later; or the first block
    and then later ones, as a window sees its sink."""
    most = num_blocks - blocks
    if most <= 0 or rng.random() < START_SHARE:
        return np.arange(blocks)
    first = int(rng.integers(1, most + 1))
    numbers = np.arange(first, first + blocks)
    if rng.random() < SINK_SHARE:
        numbers[0] = 0
    return numbers


def block_sigmas(rng: Random, blocks: int) -> np.ndarray:
    """Noise level of each block, float32 [n]; one at least is above 0."""
    kind = rng.random()
    if kind < WHOLE_SHARE:
        return np.full(blocks, _sigmas(rng, 1)[0], np.float32)
    if kind >= WHOLE_SHARE + WINDOW_SHARE:
        sigmas = _sigmas(rng, blocks)
        sigmas[: int(rng.integers(blocks))] = 0  # a clean beginning
        return sigmas
    return window_sigmas(rng, blocks)


def window_sigmas(rng: Random, blocks: int) -> np.ndarray:
    """Clean blocks, and after them a window at the served levels: rising with the block, or one
    block at one of the levels as in Self-Forcing."""
    levels = Levels(STREAM).sigmas[::-1]  # least noise first
    sigmas = np.zeros(blocks, np.float32)
    if rng.random() < 0.35:  # block after block
        sigmas[-1] = rng.choice(levels)
        return sigmas
    clean = int(rng.integers(0, min(3, blocks)))
    lowest = int(rng.integers(len(levels))) if clean == 0 else 0
    for place, block in enumerate(range(clean, blocks)):
        sigmas[block] = levels[min(lowest + place, len(levels) - 1)]
    nearby = np.clip(1 + 0.01 * rng.standard_normal(), 0.97, 1.0)
    return (sigmas * nearby).astype(np.float32)


def _sigmas(rng: Random, count: int) -> np.ndarray:
    """In (0, 1]."""
    even = rng.random(count)
    high = shifted(torch.from_numpy(even), STREAM.shift).numpy()
    return np.where(rng.random(count) < EVEN_SHARE, even, high).clip(1e-3, 1).astype(np.float32)
