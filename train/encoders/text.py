"""The text encoder's lesson: what a prompt says about mood, hair, clothes and wall.

Half of the prompts are captions as clips have them, the others what a user might type, down to an
empty prompt. No attribute of a character can be guessed from another one.

B prompts   L tokens   C width
"""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.checkpoint import save_checkpoint
from networks.presets import Preset
from networks.text_encoder import TextEncoder, checkpoint_keys, module_key
from pipeline.sessions.text import Tokenizer
from train.world.clips import identity_seed
from train.world.identity import (
    COLOURS,
    TABLES,
    WEIGHTS,
    Identity,
    article,
    caption,
    clothes,
    identity,
    looks,
)
from train.world.motion import MOODS

CHOICES: dict[str, tuple[str, ...]] = {
    "mood": tuple(MOODS),
    **{name: tuple(WEIGHTS[name]) for name in ("hair_name", "cut", "glasses", "beard")},
    "garment": tuple(TABLES["garment"]),
    "cloth_name": tuple(COLOURS["cloth_name"]),
    "cloth_pattern": tuple(WEIGHTS["cloth_pattern"]),
    "wall_name": tuple(COLOURS["wall_name"]),
    "background": tuple(WEIGHTS["background"]),
}
"""What a prompt can say. What it does not say counts as one more value, the last."""
NOUNS = ("person", "man", "woman", "character", "face", "avatar")
UNSAID = {"glasses": "none", "beard": "none", "cloth_pattern": "plain"}  # has no words
BATCH = 16
CAPTION_SHARE = 0.5
DEV_CAPTIONS = 256

NEARNESS = (((0.5, 9.0), (0.15, 0.15)), ((0.1, 0.5), (0.3, 0.3)))
"""Per layer and head: how much attention falls per byte of distance, before and after, at first."""

Said = dict[str, str]  # attribute -> its value in the prompt; what it does not mention is missing
ANYONE = identity(0)


def character(rng: np.random.Generator) -> tuple[Identity, str]:
    drawn = {name: values[int(rng.integers(len(values)))] for name, values in CHOICES.items()}
    mood = drawn.pop("mood")
    return dataclasses.replace(ANYONE, **drawn, freckles=bool(rng.random() < 0.1)), mood


def said(who: Identity, mood: str) -> Said:
    """What the whole caption of a character says."""
    result = {"mood": mood} | {n: getattr(who, n) for n in CHOICES if n != "mood"}
    if who.cut == "bald":
        del result["hair_name"]
    if who.garment == "jacket":
        del result["cloth_pattern"]
    return {name: value for name, value in result.items() if UNSAID.get(name) != value}


def prompt(rng: np.random.Generator) -> tuple[str, Said]:
    """A caption or a short prompt, and what it says."""
    who, mood = character(rng)
    if rng.random() < CAPTION_SHARE:
        return caption(who, mood, int(rng.integers(1 << 30))), said(who, mood)
    words, all_said = _short(rng, who, mood), said(who, mood)
    text = (", " if rng.random() < 0.3 else " ").join(part for part, _ in words)
    named = {name for _, names in words for name in names}
    style = rng.random()
    text = text.lower() if style < 0.3 else text[:1].upper() + text[1:] if style < 0.6 else text
    text = text + "." if text and rng.random() < 0.3 else text
    return text, {name: value for name, value in all_said.items() if name in named}


def _short(rng: np.random.Generator, who: Identity, mood: str) -> list[tuple[str, tuple[str, ...]]]:
    """Parts of a short prompt with the attributes that each names."""
    kept = rng.random(5) < rng.uniform(0.15, 0.95)
    noun, parts = NOUNS[int(rng.integers(len(NOUNS)))], []
    if kept[0]:
        bare = rng.random() < 0.2
        parts.append((mood if bare else f"{article(mood)} {noun}", ("mood",)))
    elif kept[1:].any():
        parts.append((f"a {noun}", ()))
    if kept[1]:
        colour_only = who.cut != "bald" and rng.random() < 0.4
        hair = f"{who.hair_name} hair" if colour_only else looks(who)[0]
        parts.append((f"with {hair}", ("hair_name",) if colour_only else ("hair_name", "cut")))
    if kept[2] and (extras := looks(who)[1:]):
        parts.append(("with " + " and ".join(extras), ("glasses", "beard")))
    if kept[3]:
        names = ("garment", "cloth_name", "cloth_pattern")
        parts.append((f"wearing {clothes(who)}", names))
    if kept[4]:
        place = "wall" if rng.random() < 0.5 else "background"
        parts.append((f"in front of {article(who.wall_name)} {place}", ("wall_name",)))
    return parts


def labels(all_said: list[Said]) -> dict[str, Tensor]:
    """int64 [B] of every attribute; what was not said has the last number."""
    return {
        name: torch.tensor([values.index(s[name]) if name in s else len(values) for s in all_said])
        for name, values in CHOICES.items()
    }


@torch.no_grad()
def start_near(encoder: TextEncoder) -> None:
    """Let every head look at its neighbours at first: words are made of bytes that stand together.
    After 100 steps the loss is 14.5 instead of 14.9 (19.9 at first). Buckets are T5's: exact below
    a quarter of their number, then logarithmic up to a distance of 128, first those before, then
    those after."""
    for layer, heads in zip(encoder.model.encoder.block, NEARNESS, strict=False):
        bias = layer.layer[0].SelfAttention.relative_attention_bias.weight
        half = bias.shape[0] // 2
        exact = half // 2
        place = torch.arange(half)
        far = exact * (128 / exact) ** ((place - exact + 0.5) / (half - exact))
        distance = torch.where(place < exact, place, far)
        for head in range(bias.shape[1]):
            before, after = heads[head % len(heads)]
            bias[:, head] = -torch.cat([before * distance, after * distance])


class PromptModel(nn.Module):
    """The encoder, and linear readings of the mean of its rows, which are thrown away."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.encoder = TextEncoder(preset.text)
        start_near(self.encoder)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(preset.text.dim, len(values) + 1) for name, values in CHOICES.items()}
        )

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> dict[str, Tensor]:
        """int64 [B, L] each -> logits [B, values + 1] of every attribute."""
        rows = self.encoder(token_ids, token_mask)
        mean = rows.sum(1) / token_mask.sum(1, keepdim=True)
        return {name: head(mean) for name, head in self.heads.items()}


class TextLesson:
    """What `train.encoders` trains as "text"."""

    name = "text"
    panels: ClassVar = {
        "loss": ("loss",),
        "captions": ("caption", "caption_mood", "caption_worst"),
        "short prompts": ("short", "short_mood"),
    }
    shown = ("caption", "caption_mood", "caption_worst", "short", "short_mood")

    def __init__(self, preset: Preset, seed: int) -> None:
        self.preset, self.seed = preset, seed
        self.tokenizer = Tokenizer(preset.pipeline, Path())
        self.model = PromptModel(preset)

    def tokens(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Ids and mask, int64 [B, L]; padding that all share is left out, it changes nothing."""
        pairs = [self.tokenizer(p) for p in prompts]
        arrays = (np.concatenate([p[n] for p in pairs]) for n in ("token_ids", "token_mask"))
        ids, mask = map(torch.from_numpy, arrays)
        longest = int(mask.sum(1).max())
        return ids[:, :longest], mask[:, :longest]

    def loss(self, model: PromptModel, step: int) -> Tensor:
        rng = np.random.default_rng([self.seed, step, 0x7E])
        logits, truth = self._answers(model, [prompt(rng) for _ in range(BATCH)])
        return torch.stack([F.cross_entropy(logits[name], truth[name]) for name in CHOICES]).sum()

    def _answers(self, model: PromptModel, pairs: list[tuple[str, Said]]) -> tuple[Any, Any]:
        prompts, all_said = zip(*pairs, strict=True)
        return model(*self.tokens(list(prompts))), labels(list(all_said))

    @torch.no_grad()
    def _right(self, model: PromptModel, pairs: list[tuple[str, Said]]) -> dict[str, float]:
        logits, truth = self._answers(model, pairs)
        return {n: float((logits[n].argmax(1) == truth[n]).float().mean()) for n in CHOICES}

    def scores(self, model: PromptModel) -> dict[str, float]:
        """Shares that are read rightly: captions of unseen faces, and unseen short prompts."""
        rng = np.random.default_rng(0xDE5)
        captions = []
        for seed in range(DEV_CAPTIONS):
            who, mood = identity(identity_seed(seed, "dev")), str(rng.choice(list(MOODS)))
            captions.append((caption(who, mood, seed), said(who, mood)))
        drawn = [prompt(rng) for _ in range(2 * DEV_CAPTIONS)]
        short = [pair for pair in drawn if len(pair[0]) < 70]
        whole, brief = self._right(model, captions), self._right(model, short)
        return (
            {"caption": float(np.mean(list(whole.values()))), "caption_worst": min(whole.values())}
            | {"short": float(np.mean(list(brief.values())))}
            | {f"caption_{name}": value for name, value in whole.items()}
            | {f"short_{name}": value for name, value in brief.items()}
        )

    def save(self, model: PromptModel, out: Path) -> None:
        keys = {module_key(key): key for key in checkpoint_keys(self.preset.text)}
        save_checkpoint(model.encoder, out / "text_encoder.safetensors", key_of=keys)
