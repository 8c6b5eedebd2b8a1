"""The umT5 encoder in PyTorch and in ONNX Runtime against the release."""

import dataclasses
from pathlib import Path

import pytest
import torch

from export.graphs.encoders import text_graph
from export.graphs.onnx_file import export_graph
from networks.checkpoint import load_checkpoint
from networks.presets import PRESETS
from networks.text_encoder import TextEncoder, checkpoint_keys, module_key
from tests.golden.avatar.onnx_driver import open_session
from tests.golden.fixtures import max_abs, needs_golden, preset, tensors, weights, write_weights

pytestmark = needs_golden

TOLERANCE = 1e-4
"""The fixtures' own; float32 sums in another order reach 2e-6."""


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return load_checkpoint(TextEncoder(preset().text), weights("text_encoder"), rename=module_key)


def test_rows_of_the_prompt(encoder: TextEncoder) -> None:
    """The position bias alone tells words apart by place; padding must stay unseen."""
    io = tensors("t5_io")
    text, num_rows = encoder(io["ids"], io["mask"]), io["out"].shape[1]
    assert max_abs(text[:, :num_rows], io["out"]) <= TOLERANCE
    assert not text[:, num_rows:].any()


def test_padding_changes_nothing(encoder: TextEncoder) -> None:
    """Deployments differ in how far they pad."""
    io = tensors("t5_io")
    length = int(io["mask"].sum()) + 3
    text = encoder(io["ids"][:, :length], io["mask"][:, :length])
    assert max_abs(text[:, : io["out"].shape[1]], io["out"]) <= TOLERANCE


def test_every_weight_has_one_of_wans_names() -> None:
    """A released file would not load, or not whole."""
    config = preset().text
    names = [module_key(key) for key in checkpoint_keys(config)]
    assert sorted(names) == sorted(TextEncoder(config).state_dict())
    assert sorted(checkpoint_keys(config)) == sorted(tensors("t5_weights"))


def test_number_of_released_tensors() -> None:
    """The released file holds 242 tensors and 5,680,910,336 numbers."""
    with torch.device("meta"):
        state = TextEncoder(PRESETS["14b"].text).state_dict()
    assert len(state) == 242
    assert sum(tensor.numel() for tensor in state.values()) == 5_680_910_336


def test_graph(tmp_path: Path) -> None:
    """The served graph."""
    io, golden = tensors("t5_io"), preset()
    pipeline = dataclasses.replace(golden.pipeline, text_len=io["ids"].shape[1])
    dit = dataclasses.replace(golden.dit, text_len=io["ids"].shape[1], text_dim=golden.text.dim)
    pipeline = dataclasses.replace(pipeline, text_dim=golden.text.dim)
    write_weights(tmp_path)
    padded = dataclasses.replace(golden, dit=dit, pipeline=pipeline)
    session = open_session(export_graph(text_graph(padded, tmp_path), tmp_path))
    (text,) = session.run(None, {"token_ids": io["ids"].numpy(), "token_mask": io["mask"].numpy()})
    num_rows = io["out"].shape[1]
    assert max_abs(text[:, :num_rows], io["out"]) <= TOLERANCE
    assert not text[:, num_rows:].any()
