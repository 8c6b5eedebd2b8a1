"""The audio encoder's lesson: what of a face the voice moves, from what a live stream would send.

Windows are cut and normalised as those of the server; targets are the curves of the mouth and the
voice (`train.world.lips`) of the whole sound. Some sounds get louder and softer, so that the recent
past tells the level. What a step sees follows from the seed and the step's number alone.

B windows   T video frames of a window, context and block   L layers   C width
"""

import dataclasses
from collections import OrderedDict
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.audio_encoder import AudioEncoder, module_key
from networks.checkpoint import load_checkpoint, save_checkpoint
from networks.presets import Preset
from pipeline.avatar.audio import frame_places, num_hidden_frames
from pipeline.config.avatar import PipelineConfig
from train.encoders.features import features_at, hidden_states, stream_windows
from train.world.clips import identity_seed
from train.world.lips import SAMPLES_PER_FRAME, mouth_curve, voice_curves
from train.world.speech import sound

SHAPES = ("opening", "width", "roundness", "stress", "lean", "sway")
SPREAD = torch.tensor([0.25, 0.12, 0.15, 0.2, 1.0, 1.0])  # their deviations: errors count in these
KINDS = {"speech": 0.64, "speech in noise": 0.12, "speech over music": 0.1, "silence": 0.06,
         "noise": 0.04, "music": 0.04}  # fmt: skip
NUM_FRAMES = 204  # of a sound: 16 blocks and room for the lookahead
FIRST_SOUNDS, MOST_SOUNDS, STEPS_PER_SOUND = 24, 64, 2
WANDER_SHARE, WANDER_DECIBELS = 0.3, 6  # share of the sounds whose level wanders, and how far
FULL_SHARE = 0.7  # of steps whose windows have all their context; the others are near a start
BATCH_FRAMES = 520  # video frames of a batch: 8 full windows, more of the short ones
CONTEXT_WEIGHT, LAYER_WEIGHT = 0.5, 0.3  # frames before the block, layers' own predictions
DEV_SOUNDS = {"speech": 12, "speech in noise": 2, "silence": 3}


@dataclass(frozen=True, slots=True)
class Sound:
    """A waveform and the curves that it asks for."""

    samples: np.ndarray  # float32 [640 * NUM_FRAMES]
    curves: np.ndarray  # float32 [NUM_FRAMES, 6], see SHAPES


def draw_sound(seed: int, split: str, kind: str | None = None) -> Sound:
    """A sound and its truth; in the split "train" its level may wander."""
    rng = np.random.default_rng([seed, 0xA0D])
    kind = kind or str(rng.choice(list(KINDS), p=list(KINDS.values())))
    key = identity_seed(seed, split)
    samples, _, _ = sound(key, NUM_FRAMES * SAMPLES_PER_FRAME, split, kind)
    if split == "train" and rng.random() < WANDER_SHARE:
        places = np.linspace(0, len(samples), 6)
        level = np.interp(np.arange(len(samples)), places, rng.uniform(-1, 1, 6) * WANDER_DECIBELS)
        samples = np.clip(samples * 10 ** (level / 20), -1, 1).astype(np.float32)
    mouth = mouth_curve(samples)
    return Sound(samples, np.stack(astuple(mouth) + astuple(voice_curves(mouth)), 1))


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of equal length."""

    samples: Tensor  # [B, S], normalised
    index: Tensor  # int64 [B, T], hidden frame of each video frame
    weight: Tensor  # [B, T] of the hidden frame after it
    curves: Tensor  # [B, T, 6], the truth


def cut(sounds: list[tuple[Sound, int]], config: PipelineConfig) -> Windows:
    """The windows of (sound, block); all blocks with the same number of context frames."""
    rows = []
    for source, block in sounds:
        (window,) = stream_windows(source.samples, range(block, block + 1), config)
        end = (block + 1) * config.video_frames_per_block
        first = max(block * config.video_frames_per_block - config.audio_context_frames, 0)
        hidden = num_hidden_frames(window.samples.shape[1])
        places = frame_places(first, end - first, first * config.samples_per_frame, hidden,
                              fps=config.fps, rate=config.sample_rate)  # fmt: skip
        rows.append((window.samples[0], *places, source.curves[first:end]))
    return Windows(*(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True)))


class MouthModel(nn.Module):
    """The encoder and what is thrown away: the mixture of its layers, and linear readings."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.encoder = AudioEncoder(preset.audio)
        layers, width = preset.audio.num_hidden_layers + 1, preset.audio.hidden_size
        self.mix = nn.Parameter(torch.ones(layers, 1, 1))
        self.head = nn.Linear(width, len(SHAPES))
        self.layer_heads = nn.ModuleList(nn.Linear(width, len(SHAPES)) for _ in range(layers))

    def forward(self, windows: Windows) -> tuple[Tensor, Tensor]:
        """The mixture's curves [B, T, 6] and each layer's own [B, L + 1, T, 6]."""
        hidden = hidden_states(self.encoder, windows.samples)
        features = features_at(hidden, windows.index, windows.weight)
        weights = F.silu(self.mix)  # as `networks.audio_tokens` will mix them
        mixed = (features * weights).sum(1) / weights.sum(0)
        rows = features.transpose(2, 3)
        own = [head(rows[:, i]) for i, head in enumerate(self.layer_heads)]
        return self.head(mixed.transpose(1, 2)), torch.stack(own, 1)


class AudioLesson:
    """What `train.encoders` trains as "audio"."""

    name = "audio"
    panels: ClassVar = {
        "loss": ("loss",),
        "correlation": SHAPES,
        "opening, first and last frame": ("opening_0", "opening_11"),
        "opening of closed lips": ("closed", "silence"),
    }
    shown = (*SHAPES, "opening_0", "opening_11", "closed", "silence")

    def __init__(
        self, preset: Preset, seed: int, lookaheads: tuple[int, ...], start: Path | None = None
    ) -> None:
        """`lookaheads`: video frames, drawn from evenly; scores are those of the first. `start`: an
        encoder to go on from."""
        self.preset, self.seed, self.lookaheads = preset, seed, lookaheads
        self.sounds: OrderedDict[int, Sound] = OrderedDict()
        self.dev: list[tuple[str, Sound]] = []
        self.model = MouthModel(preset)
        if start is not None:
            load_checkpoint(self.model.encoder, start, rename=module_key)
            self.model.requires_grad_(True)

    def config(self, lookahead: int) -> PipelineConfig:
        return dataclasses.replace(self.preset.pipeline, audio_lookahead_frames=lookahead)

    def _pool(self, step: int) -> list[Sound]:
        last = FIRST_SOUNDS + step // STEPS_PER_SOUND
        for number in range(max(0, last - MOST_SOUNDS), last):
            if number not in self.sounds:
                index = (100_000 * self.seed + number) % 1_000_000
                self.sounds[number] = draw_sound(index, "train")
        while len(self.sounds) > MOST_SOUNDS:
            self.sounds.popitem(last=False)
        return list(self.sounds.values())

    def batch(self, step: int) -> Windows:
        pool, rng = self._pool(step), np.random.default_rng([self.seed, step, 0xBA])
        config = self.config(int(rng.choice(self.lookaheads)))
        per_block, context = config.video_frames_per_block, config.audio_context_frames
        num_blocks = (NUM_FRAMES - config.audio_lookahead_frames) // per_block
        first_full = min(-(-context // per_block), num_blocks - 1)
        full = first_full == 0 or rng.random() < FULL_SHARE
        blocks = range(first_full, num_blocks) if full else [int(rng.integers(first_full))]
        frames = min(blocks[0] * per_block, context) + per_block + config.audio_lookahead_frames
        chosen = rng.integers(len(pool), size=max(1, BATCH_FRAMES // frames))
        return cut([(pool[i], int(rng.choice(blocks))) for i in chosen], config)

    def loss(self, model: MouthModel, step: int) -> Tensor:
        windows = self.batch(step)
        made, own = model(windows)
        weight = torch.full((made.shape[1], 1), CONTEXT_WEIGHT)
        weight[-self.preset.pipeline.video_frames_per_block :] = 1.0
        error = ((made - windows.curves) / SPREAD) ** 2
        each = ((own - windows.curves.unsqueeze(1)) / SPREAD) ** 2
        return (error * weight).mean() + LAYER_WEIGHT * (each * weight).mean()

    @torch.no_grad()
    def readings(self, model: MouthModel, lookahead: int) -> list[tuple[str, Tensor, Tensor]]:
        """Kind, prediction and truth [blocks, 12, 6] of every sound of unheard voices."""
        if not self.dev:
            kinds = [kind for kind, count in DEV_SOUNDS.items() for _ in range(count)]
            self.dev = [(kind, draw_sound(i, "dev", kind)) for i, kind in enumerate(kinds)]
        config, result = self.config(lookahead), []
        per_block = config.video_frames_per_block
        full = range(-(-config.audio_context_frames // per_block), NUM_FRAMES // per_block - 1)
        for kind, source in self.dev:
            groups = [*([b] for b in range(full[0])), list(full)]
            windows = [cut([(source, b) for b in group], config) for group in groups]
            made = torch.cat([model(w)[0][:, -per_block:] for w in windows])
            truth = torch.cat([w.curves[:, -per_block:] for w in windows])
            result.append((kind, made, truth))
        return result

    def scores(self, model: MouthModel, lookahead: int | None = None) -> dict[str, float]:
        """Correlations over all voices and, named `…_k`, of the block's frame k; silence's mouth.
        `closed` and `silence`: mean opening where lips are closed, in the pauses of speech and in
        sounds without a voice."""
        readings = self.readings(model, self.lookaheads[0] if lookahead is None else lookahead)
        spoken = [(made, truth) for kind, made, truth in readings if kind != "silence"]
        made, truth = (torch.cat(column) for column in zip(*spoken, strict=True))
        scores = {}
        for i, name in enumerate(SHAPES):
            scores[name] = correlation(made[..., i], truth[..., i])
            for k in range(made.shape[1]):
                scores[f"{name}_{k}"] = correlation(made[:, k, i], truth[:, k, i])
        closed = made[..., 0].clamp(0, 1)[truth[..., 0] == 0]
        silent = torch.cat([made[..., 0] for kind, made, _ in readings if kind == "silence"])
        silence = float(silent.clamp(0, 1).mean())
        return scores | {"closed": float(closed.mean()), "silence": silence}

    def save(self, model: MouthModel, out: Path) -> None:
        save_checkpoint(model.encoder, out / "audio_encoder.safetensors")


def correlation(one: Tensor, other: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])
