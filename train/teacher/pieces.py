"""What a step of the teacher's training learns from: noisy pieces of clips, and what to answer.

All blocks of a piece share one noise level, as the blocks in a step's KV cache do. What a stream
will meet is practised here: missing sinks, prompts and sound, references that are generated frames,
places far into a stream, and history that is not quite right.

B pieces   n blocks of a piece   F latent frames of a block   C channels   h, w latent size
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline.config.avatar import PipelineConfig
from pipeline.denoising.schedule import Schedule
from train.latents.clips import LatentBatch, LatentClips
from train.learning.device import joined, moved_to
from train.network.batched_dit import Conditions
from train.network.flow import add_noise, shifted
from train.preset import PRESET

Random = np.random.Generator
SHAPES = ((8, 2), (4, 4), (3, 6))  # pieces and their blocks in a step: many levels, or long history
SHAPE_WEIGHTS = (0.3, 0.4, 0.3)
STEP_WEIGHTS = (0.25, 0.3, 0.4, 0.05)  # of the served levels; the last one changes next to nothing
SERVED_SHARE = 0.65  # share of pieces near a level of the served schedule; the others are anywhere
JITTER = 0.02
REFRESH_STEPS = 64  # how often clips that were made meanwhile are taken in
AUDIO_DROPOUT, SINK_DROPOUT = 0.1, 0.15
RECALIBRATED = 0.45  # of pieces from mid-stream, those whose reference is a frame of their clip
MOST_MISDRAWN = 0.4  # of what is wrong in such a reference, as `MOST_CORRUPTION`: a stream draws it
CORRUPTED = 0.3
MOST_CORRUPTION = 0.6  # deviation, in that of latents, of what is wrong in corrupted history
FAR_SHARE, FARTHEST_BLOCK = 0.5, 20_000  # of mid-stream pieces, told to be elsewhere; how far
CHANGE_WEIGHT = 4.0  # of squared errors in the change from one latent to the next
MOUTH_WEIGHT, EYES_WEIGHT = 15.0, 6.0  # added to a latent's 1 by its share of such pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """A step's input and target."""

    clean: Tensor  # [B, C, n * F, h, w]
    noisy: Tensor  # as `clean`, at `sigma`
    sigma: Tensor  # [B], in (0, 1]
    conditions: Conditions
    starts: list[int]  # first block of each piece, as counted in its stream
    sink: bool
    weight: Tensor  # [B, 1, n * F, h, w]; 0 where history was corrupted

    @property
    def target(self) -> Tensor:
        """The velocity from `noisy` to `clean`."""
        return (self.noisy - self.clean) / self.sigma.view(-1, 1, 1, 1, 1)


def draw_sigmas(rng: Random, count: int, config: PipelineConfig) -> Tensor:
    """Noise levels [count] in (0, 1]: most near those that are served, the others anywhere."""
    served = rng.choice(Schedule(4, config.shift).sigmas[:-1], count, p=STEP_WEIGHTS)
    served = served * (1 + JITTER * rng.standard_normal(count))
    anywhere = shifted(torch.from_numpy(rng.random(count)), config.shift).numpy()
    sigmas = np.where(rng.random(count) < SERVED_SHARE, served, anywhere)
    return torch.from_numpy(np.clip(sigmas, 1e-3, 1.0).astype(np.float32))


def told_place(rng: Random, block: int) -> int:
    """Where in its stream a piece is said to be; only a stream's start cannot be elsewhere."""
    if block == 0 or rng.random() >= FAR_SHARE:
        return block
    return int(np.exp(rng.uniform(np.log(block), np.log(FARTHEST_BLOCK))))


class Lessons:
    """Lessons from a folder of clips; a lesson follows from the seed, the step and the part."""

    config = PRESET.pipeline

    def __init__(
        self, clips: LatentClips, seed: int, part: int = 0, sink_dropout: float = SINK_DROPOUT
    ) -> None:
        """`part`: number of the learner, each of which has lessons of its own."""
        self.clips, self.seed, self.part = clips, seed, part
        self.sink_dropout, self.refreshed = sink_dropout, 0

    def lesson(self, step: int) -> Lesson:
        """The lesson of a step: its shape, and whether it has a sink, are the same in all parts."""
        if step >= self.refreshed + REFRESH_STEPS:
            self.clips.refresh()
            self.refreshed = step
        common = np.random.default_rng([self.seed, step])
        batch, blocks = SHAPES[common.choice(len(SHAPES), p=SHAPE_WEIGHTS)]
        sink = common.random() >= self.sink_dropout
        rng = np.random.default_rng([self.seed, step, self.part])
        blocks = min(blocks, self.clips.num_blocks)
        clips = self.clips.batch(rng, batch, self.clips.num_blocks)
        begins = rng.integers(self.clips.num_blocks - blocks + 1, size=batch)
        return self._lesson(rng, clips, begins, blocks, sink)

    def _lesson(
        self, rng: Random, clips: LatentBatch, begins: np.ndarray, blocks: int, sink: bool
    ) -> Lesson:
        frames, generator = self.config.frames_per_block, _generator(rng)
        spans = [slice(b * frames, (b + blocks) * frames) for b in begins]
        clean = torch.stack([x[:, s] for x, s in zip(clips.latents, spans, strict=True)])
        regions = torch.stack([x[s] for x, s in zip(clips.regions, spans, strict=True)])
        sigma = draw_sigmas(rng, len(clean), self.config)
        noise = torch.randn(clean.shape, generator=generator)
        wrong, learned = self._corruption(rng, clean, generator)
        weight = 1 + MOUTH_WEIGHT * regions[:, :, 0] + EYES_WEIGHT * regions[:, :, 1]
        # Towards 0 noise a velocity cannot be known, and no longer matters.
        weight = weight * (sigma**2 / (sigma**2 + 0.05) + 0.02)[:, None, None, None]
        return Lesson(
            clean=clean,
            noisy=add_noise(clean + wrong, noise, sigma),
            sigma=sigma,
            conditions=self._conditions(rng, clips, begins, blocks),
            starts=[told_place(rng, int(f) + int(b))
                    for f, b in zip(clips.first_block, begins, strict=True)],
            sink=sink,
            weight=(weight[:, None] * learned),
        )  # fmt: skip

    def _corruption(
        self, rng: Random, clean: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """What is added to clean latents, and 1 or 0 for what is learned [B, 1, n * F, 1, 1]. In
        some pieces the first blocks are wrong, in grain and colour, by a random amount. They are
        history for the others, who have to answer as if nothing had happened."""
        batch, _, frames = clean.shape[:3]
        blocks = frames // self.config.frames_per_block
        amount = torch.zeros(batch, 1, frames, 1, 1)
        for row in amount if blocks > 1 else ():
            if rng.random() < CORRUPTED:
                until = int(rng.integers(1, blocks)) * self.config.frames_per_block
                row[:, :until] = rng.uniform(0, MOST_CORRUPTION)
        return _wrong(clean, generator) * amount, (amount == 0).float()

    def _conditions(
        self, rng: Random, clips: LatentBatch, begins: np.ndarray, blocks: int
    ) -> Conditions:
        references, sounds = [], []
        for row, begin in enumerate(begins):
            heard = clips.audio_features[row, begin : begin + blocks].movedim(0, -2).flatten(-2)
            sounds.append(heard * float(rng.random() >= AUDIO_DROPOUT))
            reference = clips.reference[row]
            started = clips.first_block[row] + begin > 0
            if started and rng.random() < RECALIBRATED:
                frame = self._other_frame(rng, int(begin), blocks)
                reference = clips.latents[row, :, frame : frame + 1]
                wrong = _wrong(reference[None], _generator(rng))[0]
                reference = reference + rng.uniform(0, MOST_MISDRAWN) * wrong
            references.append(reference)
        return Conditions(reference=torch.stack(references), motion=clips.motion, text=clips.text,
                          audio=torch.stack(sounds))  # fmt: skip

    def _other_frame(self, rng: Random, begin: int, blocks: int) -> int:
        """A latent frame of the clip outside the piece, or inside if there is none."""
        frames = self.config.frames_per_block
        inside = range(begin * frames, (begin + blocks) * frames)
        others = [f for f in range(self.clips.num_blocks * frames) if f not in inside]
        return int(rng.choice(others or list(inside)))


def _wrong(latents: Tensor, generator: torch.Generator) -> Tensor:
    """Errors of deviation 1 for `latents` [B, C, T, h, w]: in grain, and in a clip's colour."""
    colour = torch.randn(*latents.shape[:2], 1, 1, 1, generator=generator)
    return (torch.randn(latents.shape, generator=generator) + colour) / 2**0.5


def weighted_error(velocity: Tensor, lesson: Lesson) -> Tensor:
    """Mean squared error of the velocity over what is learned, and of its change over time: errors
    that come and go with every latent are seen as flicker, lasting ones are not."""
    error, weight = velocity - lesson.target, lesson.weight
    learned = (weight > 0).sum().clamp(min=1)
    squared = (error.square().mean(1, keepdim=True) * weight).sum() / learned
    both = torch.minimum(weight[:, :, 1:], weight[:, :, :-1])
    change = (error.diff(dim=2).square().mean(1, keepdim=True) * both).sum() / learned
    return squared + CHANGE_WEIGHT * change


def _generator(rng: Random) -> torch.Generator:
    return torch.Generator().manual_seed(int(rng.integers(2**62)))


MOST_STEPS = 10**9


class _Parts(Dataset[list[Lesson]]):
    def __init__(self, parts: Sequence[Lessons]) -> None:
        self.parts = parts

    def __getitem__(self, step: int) -> list[Lesson]:
        return [part.lesson(step) for part in self.parts]


class LessonsAhead:
    """Like one `Lessons`; `lesson` must be called with successive steps from `first` on."""

    def __init__(
        self, parts: Sequence[Lessons], first: int, workers: int, device: torch.device
    ) -> None:
        """`parts`: lessons of equal shape in a step. `workers`: processes, 0 for none."""
        steps, context = range(first, MOST_STEPS), "fork" if workers else None
        loader = DataLoader(_Parts(parts), None, sampler=steps, num_workers=workers,
                            collate_fn=joined, multiprocessing_context=context)  # fmt: skip
        self.lessons, self.device = iter(loader), device

    def lesson(self, _: int) -> Lesson:
        return moved_to(self.device, next(self.lessons))
