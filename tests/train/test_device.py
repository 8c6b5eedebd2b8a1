"""Training for a GPU, as far as a processor can tell: larger steps, prepared ahead."""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from export.presets import init_weights
from pipeline.avatar.rope_tables import sink_grid
from pipeline.denoising.positions import grid, tables
from tests.support.drawn_clips import write_clips
from tests.support.programs import needs_program
from train.latents.clips import LatentClips, write_shards
from train.latents.takes import FrozenNetworks
from train.learning.device import chosen, joined, moved_to
from train.network import quick_layers
from train.network.batched_dit import frame_rotation, sink_rotation
from train.preset import PRESET
from train.teacher.pieces import Lesson, Lessons, LessonsAhead
from train.teacher.training import fresh_dit, lesson_loss
from train.vae import clips as vae_clips

CONFIG, CPU = PRESET.pipeline, torch.device("cpu")


@pytest.fixture
def clips(tmp_path: Path) -> LatentClips:
    write_clips(tmp_path)
    return LatentClips(tmp_path)


def equal(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if dataclasses.is_dataclass(one):
        return all(equal(getattr(one, f.name), getattr(other, f.name))
                   for f in dataclasses.fields(one))  # fmt: skip
    return one == other


@pytest.mark.parametrize("workers", [0, 1])
def test_a_step_of_two_parts_holds_both_learners_lessons(clips: LatentClips, workers: int) -> None:
    """Lost or doubled lessons would only be seen as slower learning."""

    def lessons(step: int) -> list[Lesson]:
        return [Lessons(clips, 5, part).lesson(step) for part in (0, 1)]

    ahead = LessonsAhead([Lessons(clips, 5, part) for part in (0, 1)], 7, workers, CPU)
    for step in (7, 8):
        found, (one, other) = ahead.lesson(step), lessons(step)
        count = len(one.clean)
        assert len(found.clean) == 2 * count
        assert torch.equal(found.noisy[:count], one.noisy)
        assert torch.equal(found.conditions.audio[count:], other.conditions.audio)
        assert found.starts == one.starts + other.starts
        assert found.sink == one.sink


def test_a_lesson_moves_as_a_whole(clips: LatentClips) -> None:
    lesson = Lessons(clips, 5).lesson(0)
    assert equal(moved_to(CPU, lesson), lesson)
    assert equal(joined([lesson]), lesson)


def test_devices_that_cannot_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a clip is drawn, and with the reason."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="--device cuda: PyTorch sees no GPU"):
        chosen(argparse.Namespace(device="cuda", threads=1))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ValueError, match="--threads 2: a GPU takes one learner"):
        chosen(argparse.Namespace(device="cuda", threads=2))


def test_turns_of_many_streams_are_those_of_each() -> None:
    """The tables that are served, also 20,000 blocks into a stream."""
    frames = np.array([[0, 1, 2], [60_000, 60_001, 60_002]])
    for row, turns in zip(frames, frame_rotation(CONFIG, frames, CPU), strict=True):
        cos, sin = tables(grid(tuple(row), CONFIG.token_grid), CONFIG.head_dim)
        assert np.array_equal(turns.real.numpy(), cos)
        assert np.array_equal(turns.imag.numpy(), sin)
    for place, turns in zip((30, 91), sink_rotation(CONFIG, [30, 91], CPU), strict=True):
        cos, sin = tables(sink_grid(CONFIG, place), CONFIG.head_dim)
        assert np.array_equal(turns.real.numpy(), cos)
        assert np.array_equal(turns.imag.numpy(), sin)


def test_rounded_products_learn_the_same(
    clips: LatentClips, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A faster step in another direction would be no faster."""
    lesson = Lessons(clips, 5).lesson(1)
    losses, gradients = [], []
    for products in ("float32", "bfloat16"):
        monkeypatch.setattr(quick_layers, "_products", torch.float32)
        quick_layers.set_products(products)
        dit = fresh_dit(0)
        loss = lesson_loss(dit, lesson)
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([p.grad.flatten() for p in dit.blocks.parameters()]))
    assert gradients[1].dtype == torch.float32
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert torch.cosine_similarity(*gradients, dim=0) > 0.98


@needs_program("espeak-ng")
def test_batches_grow_with_their_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae_clips, "FIRST_CLIPS", 2)
    monkeypatch.setattr(vae_clips, "AHEAD", 1)
    monkeypatch.setattr(vae_clips, "SHAPES", ((2, 5),) * 3)
    with vae_clips.ClipStore(3, 32, times=3, workers=2) as store:
        assert store.batch(0).video.shape == (6, 3, 5, 32, 32)
        assert len(store.clips) == 2


@needs_program("espeak-ng")
def test_shards_do_not_depend_on_who_makes_them(tmp_path: Path) -> None:
    init_weights(PRESET, tmp_path / "weights", 0)
    networks = FrozenNetworks.load(tmp_path / "weights")
    made = [
        sorted(write_shards(tmp_path / str(workers), "train", 9, 1, networks, workers=workers))
        for workers in (1, 2)
    ]
    assert len(made[0]) == 2
    for one, other in zip(*made, strict=True):
        assert one.name == other.name
        tensors = load_file(other)
        assert all(torch.equal(t, tensors[name]) for name, t in load_file(one).items())
