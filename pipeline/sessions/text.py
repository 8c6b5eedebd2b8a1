"""Prompts to token ids, and given text rows to the length the DiT wants."""

import html
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config.avatar import PipelineConfig
from pipeline.config.rolling import RollingConfig
from pipeline.config.sizes import StreamConfig

PAD, EOS = 0, 1
FIRST_BYTE = 3
"""Token id of byte 0 in the byte vocabulary, after padding, end and unknown."""


def clean(prompt: str) -> str:
    """Resolve HTML entities (twice, for text that was escaped twice) and collapse white space. The
    release also mends wrongly decoded text with `ftfy`; that is left to whoever wrote it."""
    return " ".join(html.unescape(html.unescape(prompt)).split())


class Tokenizer:
    """Prompt to the inputs of the text encoder; which vocabulary is `config.tokenizer`."""

    def __init__(self, config: PipelineConfig | RollingConfig, folder: Path) -> None:
        """`folder` holds the tokenizer file beside the config."""
        self.text_len = config.text_len
        self._tokenizer = None
        if config.tokenizer == "bytes":
            return
        path = folder / config.tokenizer
        if not path.is_file():
            raise ValueError(f"tokenizer is {config.tokenizer!r}, but there is no file {path}")
        from tokenizers import Tokenizer as TokenizerFile  # only deployments with a file need it

        self._tokenizer = TokenizerFile.from_file(str(path))
        self._tokenizer.enable_truncation(self.text_len)
        self._tokenizer.no_padding()

    def __call__(self, prompt: str) -> dict[str, NDArray[np.int64]]:
        """`token_ids` and `token_mask`, int64 [1, text_len]; a long prompt is cut, its end kept."""
        cleaned = clean(prompt)
        if self._tokenizer is None:
            ids = [FIRST_BYTE + byte for byte in cleaned.encode()[: self.text_len - 1]] + [EOS]
        else:
            ids = self._tokenizer.encode(cleaned).ids
        token_ids = np.full((1, self.text_len), PAD, np.int64)
        token_ids[0, : len(ids)] = ids
        token_mask = np.zeros_like(token_ids)
        token_mask[0, : len(ids)] = 1
        return {"token_ids": token_ids, "token_mask": token_mask}


def pad_text(text: NDArray[np.float32], config: StreamConfig) -> NDArray[np.float32]:
    """Text encoder rows [rows, text_dim] with zero rows up to [1, text_len, text_dim]."""
    rows, width = text.shape if text.ndim == 2 else (0, 0)
    if not 1 <= rows <= config.text_len or width != config.text_dim:
        raise ValueError(
            f"text is {list(text.shape)}, wanted [1..{config.text_len}, {config.text_dim}]"
        )
    padded = np.zeros((1, config.text_len, config.text_dim), np.float32)
    padded[0, :rows] = text
    return padded
