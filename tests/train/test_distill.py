"""Distillation on a network of a few thousand weights: roll-outs, both stages, going on."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from networks.checkpoint import load_checkpoint, save_checkpoint
from networks.dit import DiT
from tests.support.served_dit import random_conditions, random_dit, tiny_preset
from train.distill import __main__ as distill
from train.distill.__main__ import parser
from train.distill.data import Trajectories, trajectory
from train.distill.rollout import History, Scene, Surroundings, rollout
from train.distill.training import Distillation, Recipe
from train.latents.clips import LatentBatch
from train.network.stream import RolloutOptions, stream

PRESET = tiny_preset(2)
CONFIG = replace(PRESET.pipeline, recalibrate_block=2, window_blocks=3)
NUM_BLOCKS = 5
TOLERANCE = 2e-5
"""Float32 sums in another order over three layers and four steps, on latents of size 1."""


def noise(batch: int = 2, blocks: int = NUM_BLOCKS) -> Tensor:
    c = CONFIG
    shape = (batch, c.latent_channels, blocks * c.frames_per_block, c.latent_height, c.latent_width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def scene() -> Scene:
    return Scene(conditions=random_conditions(PRESET, 2, NUM_BLOCKS), starts=(0, 0))


class RandomClips:
    """Clips of normal numbers, in place of a folder of them."""

    config = CONFIG

    def batch(self, rng: np.random.Generator, batch: int, blocks: int) -> LatentBatch:
        c, frames = CONFIG, blocks * CONFIG.frames_per_block
        picture = c.latent_height, c.latent_width

        def normal(*shape: int) -> Tensor:
            return torch.from_numpy(rng.standard_normal((batch, *shape)).astype(np.float32))

        first = torch.from_numpy(rng.integers(0, 6, size=batch))
        return LatentBatch(
            latents=normal(c.latent_channels, frames, *picture),
            audio_features=normal(blocks, c.audio_layers, c.audio_dim, c.video_frames_per_block),
            text=normal(c.text_len, c.text_dim),
            reference=normal(c.latent_channels, 1, *picture),
            motion=normal(c.latent_channels, c.motion_frames, *picture),
            mouth=normal(frames * c.temporal_stride, 3),
            regions=normal(frames, 2, *picture).sigmoid(),
            first_block=first,
            starts=first == 0,
        )


def recipe(**changed: object) -> Recipe:
    numbers = {"blocks": 2, "ode_batch": 4, "dmd_batch": 2, "critic_lead": 2, "critic_updates": 2}
    around = Surroundings(config=CONFIG, corruption=0.3)
    return Recipe(**({"around": around} | numbers | changed))


def make(trajectories: Trajectories, number: int) -> None:
    around = recipe().around
    options = {"batch": 4, "blocks": 2, "num_steps": 4, "guidance": 1.5}
    trajectories.make(number, RandomClips(), random_dit(PRESET.dit), around, **options)


@pytest.fixture(scope="module")
def trajectories(tmp_path_factory: pytest.TempPathFactory) -> Trajectories:
    """Two files of four clips each."""
    made = Trajectories(tmp_path_factory.mktemp("trajectories"), 0)
    for number in range(2):
        make(made, number)
    made.load(2)
    return made


def rolled_out(dit: DiT, exit_step: int, around: Surroundings, recalibrated: bool) -> Tensor:
    of, generator = scene(), torch.Generator().manual_seed(0)
    changed = CONFIG.recalibrate_block if recalibrated else None
    return rollout(dit, of, around, generator, noise(), exit_step, changed)


@pytest.mark.parametrize(("exit_step", "recalibrated"), [(0, True), (2, False), (3, True)])
def test_a_roll_out_by_levels_equals_the_stream_in_values_and_gradients(
    exit_step: int, recalibrated: bool
) -> None:
    """The student would practise something else than what is served."""
    options = RolloutOptions(exit_step=exit_step, recalibrate=recalibrated)
    gradients = []
    weight = noise().flip(1)
    for by_levels in (True, False):
        dit = random_dit(PRESET.dit).requires_grad_(True)
        if by_levels:
            made = rolled_out(dit, exit_step, Surroundings(config=CONFIG), recalibrated)
        else:
            blocks = stream(dit, scene().conditions, options, noise(), config=CONFIG)
            made = torch.cat(list(blocks), 2)
        (made * weight).mean().backward()
        gradients.append({n: p.grad for n, p in dit.named_parameters() if p.grad is not None})
        made = made.detach()
        if by_levels:
            wanted = made
    assert 0.3 < wanted.std() < 10
    assert (made - wanted).abs().max() <= TOLERANCE
    ours, theirs = gradients
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).abs().max() <= 1e-3 * gradient.abs().max() + 1e-7, name
    assert any(gradient.abs().max() > 1e-4 for gradient in ours.values())


def test_corrupted_history_changes_all_blocks_but_the_first() -> None:
    """The current block's own keys would be noisy, or history would stay as it is."""
    dit = random_dit(PRESET.dit)
    with torch.no_grad():
        clean, noisy = (
            rolled_out(dit, 2, Surroundings(config=CONFIG, corruption=amount), False)
            for amount in (0.0, 1.0)
        )
    changed = (clean - noisy).abs().unflatten(2, (NUM_BLOCKS, -1)).amax((0, 1, 3, 4, 5))
    assert changed[0] == 0
    assert changed[1:].min() > 1e-3


def test_noise_on_history_has_one_size_for_keys_and_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Values would stay clean, or the present block be noisy too."""
    spread = torch.tensor([[0.1, 0.4, 0.2], [0.3, 0.2, 0.1]])
    config = replace(CONFIG, window_blocks=3)
    length = 3 * config.tokens_per_block
    q, k, v = 3 * torch.randn(
        3, 2, config.num_heads, length, config.head_dim, generator=torch.Generator().manual_seed(5)
    )
    seen: list[tuple[Tensor, Tensor]] = []
    monkeypatch.setattr("train.network.parallel.attend", lambda q, k, v: seen.append((k, v)) or q)
    for corruption in (0.0, 1.0):
        around = Surroundings(config=config, corruption=corruption)
        history = History(around, [None] * 3, (0, 0), spread, torch.Generator())
        history(0, q, k, v)
    clean, noisy = seen[2], seen[5]  # the last block sees all three
    for name, before, after in zip("kv", clean, noisy, strict=True):
        blocks = zip(before.chunk(3, 2), after.chunk(3, 2), strict=True)
        found = torch.stack([(b - a).std((1, 2, 3)) / a.std() for a, b in blocks], 1)
        assert torch.allclose(found[:, :2], spread[:, :2], rtol=0.1), name
        assert not found[:, 2].any(), name


def test_a_window_hides_what_lies_before_it() -> None:
    """An ablation without history would see it all the same."""
    dit, around = random_dit(PRESET.dit), Surroundings(config=replace(CONFIG, window_blocks=1))
    of, changed = scene(), noise()
    changed[:, :, : CONFIG.frames_per_block] += 1
    made = []
    with torch.no_grad():
        for x in (noise(), changed):
            generator = torch.Generator()
            made.append(rollout(dit, of, around, generator, x, 1))
    difference = (made[0] - made[1]).abs().unflatten(2, (NUM_BLOCKS, -1)).amax((0, 1, 3, 4, 5))
    assert difference[0] > 1e-2
    assert not difference[1:].any()


@pytest.mark.parametrize("num_steps", [4, 7])
def test_a_trajectory_ends_where_the_teachers_stream_does_and_stops_at_the_students_levels(
    num_steps: int,
) -> None:
    """The student would regress onto states that it never meets."""
    teacher, around = random_dit(PRESET.dit), Surroundings(config=CONFIG)
    states = trajectory(teacher, scene(), noise(), around, num_steps=num_steps)
    assert states.shape[1] == CONFIG.num_steps + 1
    assert states[:, 0].equal(noise())
    options = RolloutOptions(num_steps=num_steps, recalibrate=False)
    with torch.no_grad():
        streamed = stream(teacher, scene().conditions, options, noise(), config=CONFIG)
        assert (states[:, -1] - torch.cat(list(streamed), 2)).abs().max() <= TOLERANCE
        # The student's own steps, one for each level, are the teacher's if it has as many.
        sigmas = around.schedule.sigmas
        drift = (states[:, 1] - states[:, 0]) / float(sigmas[1] - sigmas[0])
    assert 0.1 < drift.std() < 20


def test_a_teacher_whose_steps_miss_the_students_levels_is_refused() -> None:
    """States would be taken at the nearest level instead, with the wrong timestep."""
    with pytest.raises(ValueError, match="multiple of 3"):
        trajectory(random_dit(PRESET.dit), scene(), noise(), Surroundings(config=CONFIG),
                   num_steps=8)  # fmt: skip


@pytest.mark.parametrize("target", ["clean", "next"])
def test_regression_brings_the_student_to_the_teachers_trajectories(
    trajectories: Trajectories, target: str
) -> None:
    """The loss would measure something that its gradient does not lower."""
    learners = Distillation(random_dit(PRESET.dit), recipe(ode_target=target, ode_rate=3e-3), 0)
    losses = [learners.regress(trajectories, i / 40)["ode_loss"] for i in range(40)]
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8])


@pytest.mark.parametrize("schedule", ["sequential", "rolling"])
def test_matching_moves_the_student_and_the_critic_learns_its_samples(schedule: str) -> None:
    """Turns would be miscounted, or one network would learn in the other's place."""
    chosen = recipe(generator_rate=1e-3, schedule=schedule)
    learners = Distillation(random_dit(PRESET.dit), chosen, 0)
    before = copy.deepcopy(learners.teacher.state_dict())
    figures = [learners.match(RandomClips()) for _ in range(7)]
    improved = [i for i, row in enumerate(figures) if "gradient" in row]
    assert improved == [2, 4, 6]
    assert all(np.isfinite(list(row.values())).all() for row in figures)
    for name, value in learners.teacher.state_dict().items():
        assert value.equal(before[name]), "the teacher has changed"
    for network in (learners.student, learners.average, learners.critic):
        assert not network.head.head.weight.equal(before["head.head.weight"])


def test_the_critic_learns_five_times_for_each_time_of_the_student() -> None:
    """The papers' ratio; with less, the student learns from a critic that lags behind."""
    around = Surroundings(config=CONFIG)
    words = ["--weights", "a", "--clips", "b", "--teacher", "c", "--out", "d"]
    asked = distill.recipe_of(parser().parse_args(words))
    assert asked.critic_updates == Recipe(around=around).critic_updates == 5


def test_the_schedule_of_roll_outs_is_the_chosen_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Rolling-Forcing student would practise timestep forcing, or an option do nothing."""
    rolled = torch.zeros(())
    asked: list[tuple[tuple[int, ...], bool]] = []

    def in_the_window(dit, scene, around, generator, noise, offset, *, recalibrate):
        asked.append((scene.starts, recalibrate))
        return rolled

    monkeypatch.setattr("train.distill.training.rolling_rollout", in_the_window)
    for schedule in ("sequential", "rolling"):
        chosen = recipe(schedule=schedule, recalibrate=False)
        learners = Distillation(random_dit(PRESET.dit), chosen, 0)
        with torch.no_grad():
            made, scene = learners.roll_out(RandomClips(), 0)
        assert (made is rolled) == (schedule == "rolling")
    assert asked == [(scene.starts, False)]
    with pytest.raises(ValueError, match="exits is 2"):
        recipe(schedule="rolling", exits=2)
    with pytest.raises(ValueError, match="schedule is 'diagonal'"):
        recipe(schedule="diagonal")


def test_the_student_comes_to_a_teacher_that_differs_by_a_shift() -> None:
    """The sign of the gradient, or the roles of critic and teacher, would be exchanged."""
    teacher = random_dit(PRESET.dit)
    quick = recipe(generator_rate=1e-2, critic_rate=1e-2, exits=1, blocks=1, dmd_batch=4,
                   guidance=1.0, recalibrate=False, critic_lead=0)  # fmt: skip
    learners = Distillation(teacher, quick, 0)
    learners.dmd_step = 1  # past the start, where the student is copied from the average
    with torch.no_grad():  # student and critic agree with each other, not with the teacher
        for network in (learners.student, learners.critic):
            network.head.head.bias += 0.5
    gradients = [learners.match(RandomClips()).get("gradient") for _ in range(40)]
    gradients = [g for g in gradients if g is not None]
    assert np.mean(gradients[-5:]) < 0.8 * np.mean(gradients[:5])


def test_a_resumed_distillation_ends_with_equal_weights(
    tmp_path: Path, trajectories: Trajectories
) -> None:
    """An interrupted run would be another run."""
    whole, first = (Distillation(random_dit(PRESET.dit), recipe(), 0) for _ in range(2))

    def go_on(learners: Distillation, ode: int, dmd: int) -> None:
        while learners.ode_step < ode:
            learners.regress(trajectories, learners.ode_step / 4)
        while learners.dmd_step < dmd:
            learners.match(RandomClips())

    go_on(whole, 2, 5)
    go_on(first, 2, 3)
    torch.save(first.state(), tmp_path / "state.pt")
    second = Distillation(random_dit(PRESET.dit), recipe(), 0)
    second.load(torch.load(tmp_path / "state.pt", weights_only=False))
    go_on(second, 2, 5)
    for name in ("student", "average", "critic"):
        ours, theirs = (getattr(x, name).state_dict() for x in (second, whole))
        for key, value in theirs.items():
            assert ours[key].equal(value), (name, key)


def test_the_average_lies_between_where_the_student_was_and_is(
    trajectories: Trajectories,
) -> None:
    """The saved weights would be the last step's, or never leave the teacher."""
    learners = Distillation(random_dit(PRESET.dit), recipe(), 0)
    key = "blocks.0.ffn.0.weight"
    began = learners.teacher.state_dict()[key]
    for step in range(10):
        learners.regress(trajectories, step / 10)
    average, student = (x.state_dict()[key] for x in (learners.average, learners.student))
    assert 0 < (average - began).norm() < (student - began).norm()
    assert not average.equal(student)


def test_stored_trajectories_depend_on_their_number_alone(
    tmp_path: Path, trajectories: Trajectories
) -> None:
    """A resumed run would learn from others, or from the same ones twice."""
    other = Trajectories(tmp_path, 0)
    for number in (1, 0):
        make(other, number)
    other.load(2)
    assert trajectories.states.equal(other.states)
    assert not other.states[:4].equal(other.states[4:])


@pytest.fixture
def saved_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[DiT, str]:
    """A teacher, and the command's options for it, its file and its clips."""
    monkeypatch.setattr(distill, "PRESET", replace(PRESET, pipeline=CONFIG))
    monkeypatch.setattr(distill, "LatentClips", lambda folder: RandomClips())
    teacher = random_dit(PRESET.dit)
    save_checkpoint(teacher, tmp_path / "teacher.safetensors")
    words = f"--weights {tmp_path} --teacher {tmp_path}/teacher.safetensors --clips {tmp_path}"
    return teacher, words


def test_the_command_writes_a_student_that_loads_and_goes_on_from_its_state(
    tmp_path: Path, saved_teacher: tuple[DiT, str]
) -> None:
    """Hours of training would end without a checkpoint, or start again from the teacher."""
    teacher, words = saved_teacher
    words += f" --out {tmp_path}/out --trajectories 2 --teacher-steps 4 --blocks 2 --no-sink"
    words += " --critic-lead 0 --corruption 0 --window-blocks 2"
    options = parser()
    learners = distill.distil(options.parse_args([*words.split(), "--steps", "2", "1"]))
    assert (learners.ode_step, learners.dmd_step) == (2, 1)
    assert not learners.recipe.around.sink
    written = load_checkpoint(DiT(PRESET.dit), tmp_path / "out" / "dit.safetensors")
    assert written.head.head.weight.equal(learners.average.head.head.weight)
    assert not written.head.head.weight.equal(teacher.head.head.weight)
    more = distill.distil(options.parse_args([*words.split(), "--steps", "2", "2", "--resume"]))
    assert (more.ode_step, more.dmd_step) == (2, 2)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"dit.safetensors", "state.pt", "log.jsonl", "curve.png"}
    lines = (tmp_path / "out" / "log.jsonl").read_text().splitlines()
    assert len(lines) == 3  # stage A, stage B, and what was added to it


def test_matching_goes_on_from_a_student_and_aims_at_the_teacher(
    tmp_path: Path, saved_teacher: tuple[DiT, str]
) -> None:
    """What the student has learned so far would be lost, or be taken for the teacher's."""
    teacher, words = saved_teacher
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        student.head.head.bias += 1
    save_checkpoint(student, tmp_path / "student.safetensors")
    words += f" --start {tmp_path}/student.safetensors --out {tmp_path}/out --blocks 2"
    words += " --ode-share 0 --steps 0 1 --critic-lead 0"
    learners = distill.distil(parser().parse_args(words.split()))
    began = student.head.head.bias
    assert torch.allclose(learners.student.head.head.bias, began, atol=0.01)
    assert torch.allclose(learners.average.head.head.bias, began, atol=0.01)
    assert torch.allclose(learners.critic.head.head.bias, teacher.head.head.bias, atol=0.01)
    assert learners.teacher.head.head.bias.equal(teacher.head.head.bias)
