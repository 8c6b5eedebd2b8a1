"""The text encoder's lesson: what a prompt says about mood, hair, clothes and wall.

B prompts   L tokens   C width
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.checkpoint import load_checkpoint, save_checkpoint
from networks.text_encoder import TextEncoder, checkpoint_keys, module_key
from pipeline.sessions.text import Tokenizer
from train.encoders.prompts import Language, Said

BATCH = 16
DEV_CAPTIONS = 256

NEARNESS = (((0.5, 9.0), (0.15, 0.15)), ((0.1, 0.5), (0.3, 0.3)))
"""Per layer and head: how much attention falls per byte of distance, before and after, at first."""


def labels(all_said: list[Said], choices: Mapping[str, tuple[str, ...]]) -> dict[str, Tensor]:
    """int64 [B] of every attribute; what was not said has the last number."""
    return {
        name: torch.tensor([values.index(s[name]) if name in s else len(values) for s in all_said])
        for name, values in choices.items()
    }


@torch.no_grad()
def start_near(encoder: TextEncoder) -> None:
    """Let every head look at its neighbours at first: words are made of bytes that stand together.
    Buckets are T5's: exact below a quarter of their number, then logarithmic up to a distance of
    128, first those before, then those after."""
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
    """The encoder, and linear readings of its rows, which are thrown away: of their mean, or for
    each attribute of those that it attends to, as a transformer's cross-attention does."""

    def __init__(self, language: Language) -> None:
        super().__init__()
        dim = language.text.dim
        self.encoder = TextEncoder(language.text)
        start_near(self.encoder)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(dim, len(values) + 1) for name, values in language.choices.items()}
        )
        self.queries = nn.Parameter(torch.zeros(len(self.heads), dim)) if language.attends else None

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> dict[str, Tensor]:
        """int64 [B, L] each -> logits [B, values + 1] of every attribute."""
        rows = self.encoder(token_ids, token_mask)
        if self.queries is None:
            mean = rows.sum(1) / token_mask.sum(1, keepdim=True)
            return {name: head(mean) for name, head in self.heads.items()}
        seen = (rows @ self.queries.T).masked_fill(token_mask[..., None] == 0, -1e9).softmax(1)
        read = seen.transpose(1, 2) @ rows  # [B, attributes, C]
        return {name: head(read[:, i]) for i, (name, head) in enumerate(self.heads.items())}


class TextLesson:
    """What `train.encoders` trains as "text", or as "scenes" for text to video."""

    name = "text"
    panels: ClassVar = {
        "loss": ("loss",),
        "captions": ("caption", "caption_mood", "caption_worst"),
        "short prompts": ("short", "short_mood"),
    }
    shown = ("caption", "caption_mood", "caption_worst", "short", "short_mood")

    def __init__(self, language: Language, seed: int, start: Path | None = None) -> None:
        """`start`: text_encoder.safetensors to go on from."""
        self.language, self.seed = language, seed
        self.tokenizer = Tokenizer(language.config, Path())
        self.model = PromptModel(language)
        if start is not None:
            load_checkpoint(self.model.encoder, start, rename=module_key).requires_grad_(True)

    def tokens(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Ids and mask, int64 [B, L]; padding that all share is left out, it changes nothing."""
        pairs = [self.tokenizer(p) for p in prompts]
        arrays = (np.concatenate([p[n] for p in pairs]) for n in ("token_ids", "token_mask"))
        ids, mask = map(torch.from_numpy, arrays)
        longest = int(mask.sum(1).max())
        return ids[:, :longest], mask[:, :longest]

    def loss(self, model: PromptModel, step: int) -> Tensor:
        rng = np.random.default_rng([self.seed, step, 0x7E])
        logits, truth = self._answers(model, [self.language.prompt(rng) for _ in range(BATCH)])
        return torch.stack([F.cross_entropy(logits[name], truth[name]) for name in truth]).sum()

    def _answers(self, model: PromptModel, pairs: list[tuple[str, Said]]) -> tuple[Any, Any]:
        prompts, all_said = zip(*pairs, strict=True)
        return model(*self.tokens(list(prompts))), labels(list(all_said), self.language.choices)

    @torch.no_grad()
    def _right(self, model: PromptModel, pairs: list[tuple[str, Said]]) -> dict[str, float]:
        logits, truth = self._answers(model, pairs)
        return {n: float((logits[n].argmax(1) == truth[n]).float().mean()) for n in truth}

    def scores(self, model: PromptModel) -> dict[str, float]:
        """Shares that are read rightly: captions of unseen faces, and unseen short prompts."""
        rng = np.random.default_rng(0xDE5)
        captions = [self.language.dev_caption(seed) for seed in range(DEV_CAPTIONS)]
        drawn = [self.language.prompt(rng) for _ in range(2 * DEV_CAPTIONS)]
        short = [pair for pair in drawn if len(pair[0]) < 70]
        whole, brief = self._right(model, captions), self._right(model, short)
        return (
            {"caption": float(np.mean(list(whole.values()))), "caption_worst": min(whole.values())}
            | {"short": float(np.mean(list(brief.values())))}
            | {f"caption_{name}": value for name, value in whole.items()}
            | {f"short_{name}": value for name, value in brief.items()}
        )

    def save(self, model: PromptModel, out: Path) -> None:
        keys = {module_key(key): key for key in checkpoint_keys(self.language.text)}
        save_checkpoint(model.encoder, out / "text_encoder.safetensors", key_of=keys)
