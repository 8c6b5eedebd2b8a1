"""Prompts to token ids."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from pipeline.sessions.text import Tokenizer, clean, pad_text
from tests.pipeline.avatar.test_audio import CONFIG


def tokens(prompt: str) -> tuple[list[int], list[int]]:
    inputs = Tokenizer(CONFIG, Path())(prompt)
    assert all(a.shape == (1, CONFIG.text_len) and a.dtype == np.int64 for a in inputs.values())
    return inputs["token_ids"][0].tolist(), inputs["token_mask"][0].tolist()


def test_bytes_are_shifted_by_three_and_end_with_one() -> None:
    """The demo's text encoder was made with these ids."""
    assert tokens("Aä") == ([68, 0xC3 + 3, 0xA4 + 3, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0])


def test_a_long_prompt_is_cut_and_keeps_its_end() -> None:
    """The end token is part of the allowed length, as in the release."""
    ids, mask = tokens("abcdefghijkl")
    assert ids == [100, 101, 102, 103, 104, 105, 106, 1]
    assert mask == [1] * 8


def test_an_empty_prompt_is_one_end_token() -> None:
    """Attention needs at least one row."""
    assert tokens("") == ([1, 0, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0])


def test_entities_are_resolved_twice_and_white_space_collapses() -> None:
    """The release was trained on prompts cleaned this way."""
    assert clean(" a &amp;amp; b\n\t&lt;c&gt; ") == "a & b <c>"


def test_a_tokenizer_file_is_used(tmp_path: Path) -> None:
    """Real deployments bring umT5's vocabulary."""
    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "person": 4, "talks": 5}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    made.enable_padding(length=512)  # what a file says of lengths is not ours
    made.save(str(tmp_path / "tokenizer.json"))
    config = dataclasses.replace(CONFIG, tokenizer="tokenizer.json")
    encode = Tokenizer(config, tmp_path)
    assert encode("a person talks")["token_ids"].tolist() == [[3, 4, 5, 1, 0, 0, 0, 0]]
    assert encode("a person talks")["token_mask"].sum() == 4
    assert encode("a " * 50)["token_ids"].tolist() == [[3] * 7 + [1]]


def test_a_missing_tokenizer_file_is_named(tmp_path: Path) -> None:
    """Otherwise the first prompt would fail, not the start."""
    config = dataclasses.replace(CONFIG, tokenizer="tokenizer.json")
    with pytest.raises(ValueError, match=r"no file .*tokenizer\.json"):
        Tokenizer(config, tmp_path)


def test_given_rows_are_padded_with_zeros() -> None:
    """The DiT attends to padding, which has to be the release's zero rows."""
    padded = pad_text(np.ones((3, 8), np.float32), CONFIG)
    assert padded.shape == (1, 8, 8)
    assert (padded.sum(axis=2) == [[8, 8, 8, 0, 0, 0, 0, 0]]).all()
    for wrong in ((9, 8), (3, 7), (0, 8)):
        with pytest.raises(ValueError, match=r"wanted \[1..8, 8\]"):
            pad_text(np.ones(wrong, np.float32), CONFIG)
