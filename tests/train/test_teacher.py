"""The teacher's lessons and training on a few drawn numbers instead of clips."""

import argparse
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from networks.checkpoint import load_checkpoint
from networks.compact_vae import CompactVAE
from networks.dit import DiT
from tests.support.drawn_clips import NUM_BLOCKS, NUM_CLIPS, write_clips
from train.latents.clips import LatentClips
from train.learning.together import Together
from train.network.batched_dit import Conditions
from train.network.flow import clean_from
from train.network.parallel import velocities
from train.preset import PRESET
from train.teacher import pieces as teacher_pieces
from train.teacher import scores as teacher_scores
from train.teacher import training as teacher
from train.teacher.pieces import Lessons, draw_sigmas, weighted_error
from train.teacher.scores import DevClips
from train.teacher.training import Training, fresh_dit, lesson_loss

CONFIG = PRESET.pipeline


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With folders "train" and "dev"."""
    root = tmp_path_factory.mktemp("clips")
    for split in ("train", "dev"):
        write_clips(root / split)
    return root


@pytest.fixture
def lessons(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Lessons:
    """Of one shape: four pieces of three blocks."""
    monkeypatch.setattr(teacher_pieces, "SHAPES", ((NUM_CLIPS, NUM_BLOCKS),) * 3)
    return Lessons(LatentClips(folder / "train"), seed=1)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of a block, scores of a clip."""
    monkeypatch.setattr(teacher_pieces, "SHAPES", ((1, 1), (1, 1), (1, 2)))
    monkeypatch.setattr(teacher_scores, "ERROR_CLIPS", 1)
    monkeypatch.setattr(teacher_scores, "ERROR_BLOCKS", 1)


def test_the_target_leads_from_the_noisy_latents_to_the_clips(lessons: Lessons) -> None:
    """The network would learn another velocity than the one that the server integrates."""
    stored = lessons.clips.shards[0].get_tensor("latents").float()
    for step in range(6):
        lesson = lessons.lesson(step)
        clean = clean_from(lesson.noisy, lesson.target, lesson.sigma)
        right = (lesson.weight > 0).all(dim=(1, 3, 4))  # not corrupted
        for piece, frames in zip(clean, right, strict=True):
            distance = (stored - piece).abs()[:, :, frames].amax(dim=(1, 2, 3, 4))
            assert distance.min() <= 1e-5  # rounding of float32


def test_corrupted_history_is_an_input_only(lessons: Lessons) -> None:
    """Blocks that are wrong on purpose would be taught as right."""
    amounts = []
    for step in range(12):
        lesson = lessons.lesson(step)
        blocks = (lesson.weight > 0).all(dim=(1, 3, 4)).view(-1, NUM_BLOCKS, 3)
        assert torch.equal(blocks.all(-1), blocks.any(-1))
        learned = blocks.all(-1)
        assert learned[:, -1].all()
        assert (learned[:, 1:] >= learned[:, :-1]).all()  # what is wrong comes first
        amounts.append(learned.float().mean())
    assert 0.5 < np.mean(amounts) < 1


def test_lessons_follow_from_seed_and_step(lessons: Lessons, folder: Path) -> None:
    """A resumed run would see other data; learners would all see the same."""
    again = Lessons(LatentClips(folder / "train"), seed=1)
    other = Lessons(LatentClips(folder / "train"), seed=1, part=1)
    one = lessons.lesson(5)
    assert torch.equal(one.noisy, again.lesson(5).noisy)
    assert one.starts == again.lesson(5).starts
    assert not torch.equal(one.noisy, other.lesson(5).noisy)
    assert one.sink == other.lesson(5).sink


def test_most_noise_levels_are_those_that_are_served() -> None:
    """Four steps would be sampled at levels that training hardly saw."""
    sigmas = draw_sigmas(np.random.default_rng(0), 4000, CONFIG)
    served = torch.from_numpy(teacher_pieces.Schedule(4, CONFIG.shift).sigmas[:-1])
    near = ((sigmas[:, None] / served - 1).abs() < 0.05).any(1).float().mean()
    assert 0.65 < near < 0.85  # the others pass by some of them
    assert sigmas.min() > 0
    assert sigmas.max() == 1
    assert (sigmas < 0.3).float().mean() > 0.05


def test_errors_that_flicker_count_more_than_lasting_ones(lessons: Lessons) -> None:
    """Latents would err independently, and a step show at every border between them."""
    lesson = lessons.lesson(0)
    lesson = dataclasses.replace(lesson, weight=torch.ones_like(lesson.weight))
    lasting = torch.full_like(lesson.noisy, 0.1)
    flicker = lasting.clone()
    flicker[:, :, ::2] *= -1
    errors = [float(weighted_error(lesson.target + e, lesson)) for e in (lasting, flicker)]
    assert errors[0] == pytest.approx(0.01, rel=1e-3)
    assert errors[1] > 5 * errors[0]


def test_a_fresh_network_lets_the_noise_through(lessons: Lessons) -> None:
    """Hundreds of steps would go into copying the input to the output."""
    lesson = lessons.lesson(0)
    with torch.no_grad():
        made = velocities(
            fresh_dit(0),
            lesson.noisy,
            1000 * lesson.sigma,
            lesson.conditions,
            starts=lesson.starts,
        )
    likeness = np.corrcoef(made.flatten(), lesson.noisy.flatten())[0, 1]
    assert likeness > 0.8


def test_steps_lower_the_error(lessons: Lessons, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients, optimisers or their rates would be wrong."""
    monkeypatch.setattr(teacher_pieces, "SHAPES", ((1, 2),) * 3)
    training, lesson = Training(0), lessons.lesson(0)
    monkeypatch.setattr(lessons, "lesson", lambda _step: lesson)
    losses = [training.learn(lessons, 0.0) for _ in range(8)]
    assert losses[-1] < 0.97 * losses[0]


def options(folder: Path, out: Path, steps: int, resume: bool = False) -> argparse.Namespace:
    return argparse.Namespace(
        weights=folder, clips=folder, out=out, minutes=1.0, steps=steps, threads=1, seed=0,
        every=60.0, resume=resume, start=None, sink_dropout=0.15, rate=1.0, device="cpu", parts=1,
        workers=0, products="float32",
    )  # fmt: skip


@pytest.mark.usefixtures("short")
def test_a_resumed_run_ends_where_an_unbroken_one_does(folder: Path, tmp_path: Path) -> None:
    """What is left out of state.pt starts anew."""
    lessons = Lessons(LatentClips(folder / "train"), 0)
    unbroken = Training(0)
    for _ in range(3):
        unbroken.learn(lessons, 0.5)
    first, second = Training(0), Training(1)
    first.learn(lessons, 0.5)
    torch.save(first.state(), tmp_path / "state.pt")
    second.load(torch.load(tmp_path / "state.pt", weights_only=False))
    for _ in range(2):
        second.learn(lessons, 0.5)
    for network in ("dit", "average"):
        wanted, found = (getattr(t, network).state_dict() for t in (unbroken, second))
        assert all(torch.equal(wanted[name], found[name]) for name in wanted), network


@pytest.mark.usefixtures("short")
def test_the_command_writes_weights_that_can_be_exported(folder: Path, tmp_path: Path) -> None:
    """An hour of training would end in a file that nobody can load."""
    teacher.train(options(folder, tmp_path, steps=2))
    dit = load_checkpoint(DiT(PRESET.dit), tmp_path / "dit.safetensors")
    assert all(p.isfinite().all() for p in dit.parameters())
    teacher.train(options(folder, tmp_path, steps=3, resume=True))
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 3]
    assert {"loss", "error_0", "mouth_2"} <= rows[0].keys()
    assert (tmp_path / "curve.png").is_file()


@pytest.mark.parametrize(("growth", "wanted"), [(0.0, (0, 0)), (5.0, (5, 50))])
def test_a_long_stream_that_fades_is_told_from_one_that_moves(
    folder: Path, monkeypatch: pytest.MonkeyPatch, growth: float, wanted: tuple[float, float]
) -> None:
    """A teacher would be trusted whose colours run away after the four seconds it learned."""
    per_round, rounds, heard = 2, 12, []
    monkeypatch.setattr(teacher_scores, "STREAM_BLOCKS", per_round)
    monkeypatch.setattr(teacher_scores, "ROUNDS", rounds)

    def blocks(_: object, dit: DiT, conditions: Conditions) -> Iterator[np.ndarray]:
        heard.append(conditions.audio)
        for block in range(rounds * per_round):  # nods within a round, fades from one to the next
            grey = 100 + 20 * (block % per_round) + growth * (block // per_round)
            yield np.full((2, 12, 4, 4, 3), grey, np.uint8)

    monkeypatch.setattr(teacher_scores.DevClips, "_blocks", blocks)
    found = DevClips(folder / "dev", CompactVAE(PRESET.vae)).drift(fresh_dit(0))
    assert (found["drift_soon"], found["drift"]) == wanted
    once = per_round * CONFIG.video_frames_per_block
    assert heard[0].shape[-1] == rounds * once
    assert torch.equal(heard[0][..., :once], heard[0][..., -once:])


@pytest.mark.usefixtures("short")
def test_a_lesson_without_a_sink_leaves_its_parts_alone(lessons: Lessons) -> None:
    """Reference and motion would get into networks that are said to have none."""
    lessons.sink_dropout = 1.0
    dit, lesson = fresh_dit(0), lessons.lesson(0)
    lesson_loss(dit, lesson).backward()
    assert dit.frame_packer.proj.weight.grad is None
    assert dit.patch_embedding.weight.grad is not None


def test_the_share_of_lessons_without_a_sink_is_the_given_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ablation would meet a network that never, or always, did without; or learners differ."""
    monkeypatch.setattr(Lessons, "_lesson", lambda _self, *drawn: drawn[-1])
    clips = LatentClips(folder / "train")
    one, other = (Lessons(clips, 0, part, sink_dropout=0.25) for part in range(2))
    sinks = [one.lesson(step) for step in range(400)]
    assert sinks.count(False) == pytest.approx(100, abs=30)
    assert sinks == [other.lesson(step) for step in range(400)]


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("sink_dropout", [0.0, 1.0])
def test_sharing_gradients_changes_nothing_for_one_learner(
    folder: Path, sink_dropout: float
) -> None:
    """Several learners would take each other's gradients for other parameters' ones."""
    lessons = Lessons(LatentClips(folder / "train"), 0, sink_dropout=sink_dropout)
    size = sum(p.numel() for p in fresh_dit(0).parameters())
    alone, together = Training(0), Training(0, Together(1, size))
    for training in (alone, together):
        training.learn(lessons, 0.0)
    wanted, found = alone.dit.state_dict(), together.dit.state_dict()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
