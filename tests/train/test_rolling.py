"""Text to video as it learns: clips, lessons, the teacher, its students, on tiny networks."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from networks.causal_wan import CausalWan
from networks.checkpoint import build_seeded, save_checkpoint
from networks.compact_vae import build_vae
from networks.text_encoder import TextEncoder, checkpoint_keys, module_key
from pipeline.config.rules import under_rules
from pipeline.denoising.schedule import Levels
from train.preset import SCENES
from train.rolling import network, reader, students, teacher
from train.rolling.clips import SceneClips, num_frames, write_shards
from train.rolling.lessons import Lessons, Texts, block_sigmas, piece, window_sigmas
from train.rolling.reader import right, seen
from train.rolling.rollout import CachedWan, rolling_forcing
from train.rolling.stream import stream
from train.rolling.students import Recipe, Student
from train.scenes.clips import draw
from train.scenes.scene import CHOICES, scene
from train.vae.video import to_video

FRAMES = SCENES.stream.frames_per_block
TINY = replace(SCENES.wan, num_layers=2)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> SceneClips:
    folder = tmp_path_factory.mktemp("scenes")
    torch.manual_seed(0)
    vae = build_vae(SCENES.vae)
    assert [p.name for p in write_shards(folder, "train", 3, 4, vae)] == [
        "train_4b_000000_000002.safetensors"
    ]
    return SceneClips(folder)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Texts:
    folder = tmp_path_factory.mktemp("texts")
    keys = {module_key(key): key for key in checkpoint_keys(SCENES.text)}
    encoder = build_seeded(lambda: TextEncoder(SCENES.text), 0)
    save_checkpoint(encoder, folder / "text_encoder.safetensors", key_of=keys)
    return Texts(folder / "text_encoder.safetensors")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Callable[[], CausalWan]:
    """A fresh network of two layers."""
    stream = replace(SCENES.stream, num_layers=2)
    monkeypatch.setattr(network, "SCENES", replace(SCENES, wan=TINY, stream=stream))
    return lambda: network.quicken(network.fresh_wan(0))


def test_shards_hold_the_latents_and_words_of_their_seeds(clips: SceneClips) -> None:
    """A prompt would belong to another picture."""
    torch.manual_seed(0)
    vae = build_vae(SCENES.vae)
    made = scene(1, "train")
    assert clips.words(1) == made.words
    with torch.inference_mode():
        wanted = vae.encode(to_video(draw(made, num_frames(4)).frames)[None])[0]
    # Stored in 16 bits.
    torch.testing.assert_close(clips.latents(1, range(4)), wanted, atol=4e-3, rtol=2e-3)
    apart = clips.latents(1, np.array([0, 2, 3]))
    torch.testing.assert_close(apart[:, FRAMES:], wanted[:, 2 * FRAMES :], atol=4e-3, rtol=2e-3)


def test_shards_of_another_encoder_are_refused(clips: SceneClips) -> None:
    """Latents of two encoders would be learned as one."""
    torch.manual_seed(1)
    with pytest.raises(ValueError, match="take another folder"):
        list(write_shards(clips.folder, "train", 3, 4, build_vae(SCENES.vae)))


def test_pieces_are_successive_but_for_the_sink() -> None:
    """Motion would jump where a stream's does not."""
    rng, firsts, sinks = np.random.default_rng(0), set(), 0
    for _ in range(300):
        numbers = piece(rng, 10, 4)
        assert (np.diff(numbers[1:]) == 1).all()
        assert numbers[-1] < 10
        sinks += numbers[1] - numbers[0] > 1
        firsts.add(int(numbers[0]))
    assert 0 < sinks < 90
    assert firsts >= {0, 1, 5}
    assert (piece(rng, 4, 4) == np.arange(4)).all()


def test_noise_levels_are_those_of_whole_clips_and_of_windows() -> None:
    """A student would begin with timesteps that its teacher never met."""
    rng, served = np.random.default_rng(0), Levels(SCENES.stream).sigmas
    kinds = {"whole": 0, "clean": 0}
    for _ in range(300):
        sigmas = block_sigmas(rng, 5)
        assert sigmas.dtype == np.float32
        assert (sigmas >= 0).all()
        assert (sigmas <= 1).all()
        assert sigmas.max() > 0
        kinds["whole"] += len(set(sigmas)) == 1
        kinds["clean"] += sigmas[0] == 0
    assert kinds["whole"] > 120
    assert kinds["clean"] > 30
    for _ in range(100):
        sigmas = window_sigmas(rng, 7)
        assert (np.diff(sigmas) >= 0).all(), "the newest block is the noisiest"
        nearest = np.abs(sigmas[sigmas > 0][:, None] - served).min(1)
        assert (nearest <= 0.03 * sigmas[sigmas > 0] + 1e-6).all()


def test_a_lesson_points_from_clean_to_noise(clips: SceneClips, texts: Texts) -> None:
    """The velocity would lead elsewhere; or a clean block would be learned as noise."""
    lessons = Lessons(clips, texts, 0)
    for step in range(6):
        lesson = lessons.lesson(step)
        sigma = lesson.sigma[:, None, :, None, None]
        clean = (lesson.noisy - sigma * lesson.target)[(sigma > 0).expand_as(lesson.noisy)]
        torch.testing.assert_close(clean, lesson.clean[(sigma > 0).expand_as(lesson.noisy)],
                                   atol=1e-4, rtol=1e-4)  # fmt: skip
        assert ((lesson.weight > 0) == (sigma > 0)).all()
        assert lesson.text.shape == (len(lesson.clean), SCENES.stream.text_len, 64)
    again = lessons.lesson(3)
    assert torch.equal(again.noisy, lessons.lesson(3).noisy)


def test_rows_do_not_depend_on_other_prompts(texts: Texts) -> None:
    """A prompt would be another one beside a longer prompt."""
    alone = texts.rows(["A happy person"])
    beside = texts.rows(["A happy person", "A sad person with long black hair in a red hoodie"])
    torch.testing.assert_close(alone[0], beside[0], atol=1e-5, rtol=1e-5)
    assert (alone[0, 15:] == 0).all()


def test_the_quick_attention_is_the_served_one(tiny: Callable[[], CausalWan]) -> None:
    """What learns would not be what is exported."""
    quick, text = tiny(), torch.randn(2, SCENES.stream.text_len, 64)
    slow = CausalWan(TINY)
    slow.load_state_dict(quick.state_dict())
    latents, times = torch.randn(2, 16, 6, 12, 12), 1000 * torch.rand(2, 6)
    torch.testing.assert_close(network.velocity(quick, latents, times, text),
                               slow(latents, times, text), atol=1e-4, rtol=1e-4)  # fmt: skip


def test_guidance_moves_away_from_the_empty_prompt(tiny: Callable[[], CausalWan]) -> None:
    """A prompt would count less than asked for, or nothing."""
    wan, latents, times = tiny(), torch.randn(1, 16, 3, 12, 12), torch.full((1, 3), 800.0)
    told, empty = (torch.randn(1, SCENES.stream.text_len, 64) for _ in range(2))
    conditioned, free = (network.velocity(wan, latents, times, rows) for rows in (told, empty))
    found = network.guided_velocity(wan, latents, times, (told, empty), 3.0)
    torch.testing.assert_close(found, free + 3 * (conditioned - free), atol=1e-3, rtol=1e-3)


def test_a_resumed_teacher_is_the_one_that_was_not_stopped(
    clips: SceneClips, texts: Texts, tiny: Callable[[], CausalWan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill would cost more than the minutes since the last save."""
    del tiny
    monkeypatch.setattr(teacher, "fresh_wan", network.fresh_wan)
    lessons = Lessons(clips, texts, 0)
    whole, first, second = (teacher.Teacher(0) for _ in range(3))
    losses = [float(whole.learn(lessons, step / 2)) for step in range(2)]
    first.learn(lessons, 0.0)
    second.load(first.state())
    assert float(second.learn(lessons, 0.5)) == losses[1]
    for name, value in whole.average.state_dict().items():
        assert torch.equal(value, second.average.state_dict()[name]), name


@pytest.mark.parametrize("rules", students.CHOICES["rules"])
def test_a_student_learns_from_its_own_roll_outs(
    rules: str, clips: SceneClips, texts: Texts, tiny: Callable[[], CausalWan]
) -> None:
    """Nothing would be learned, or the teacher would move, too."""
    learner = Student(tiny(), Recipe(rules=rules, blocks=5, batch=1, critic_lead=0), texts, 0)
    fixed = {name: value.clone() for name, value in learner.teacher.state_dict().items()}
    begun = [p.clone() for p in learner.student.parameters()]
    figures = learner.match(clips)
    assert figures["gradient"] > 0
    assert figures["critic_loss"] > 0
    assert any(
        not torch.equal(a, b) for a, b in zip(begun, learner.student.parameters(), strict=True)
    )
    for name, value in learner.teacher.state_dict().items():
        assert torch.equal(value, fixed[name]), name
    with torch.no_grad():
        made, _ = learner.roll_out(clips, 7)
    assert made.shape == (1, 16, 5 * FRAMES, 12, 12)


def test_a_stream_gives_what_roll_outs_predict_at_the_last_level(
    texts: Texts, tiny: Callable[[], CausalWan]
) -> None:
    """Students would be judged as something else than they learn to be."""
    rules, text = under_rules(SCENES.stream, "rolling_forcing"), texts.rows(["A happy person"])
    shape, num_blocks, last = (1, 16, FRAMES, 12, 12), 8, 4

    def draw_at(block: int, level: int) -> torch.Tensor:
        seed = torch.Generator().manual_seed(100 * block + level)
        return torch.randn(shape, generator=seed)

    wan = tiny()
    made = list(stream(wan, rules, text, draw_at, num_blocks))
    entering = torch.cat([draw_at(block, 0) for block in range(num_blocks)], 2)
    for offset in (0, 3):
        with torch.no_grad():
            rolled = rolling_forcing(CachedWan(wan, text, FRAMES), rules, entering, offset,
                                     lambda block, level: draw_at(block, level + 1))  # fmt: skip
        for block, prediction in enumerate(rolled.split(FRAMES, 2)):
            if (offset - block) % rules.num_levels == last:
                torch.testing.assert_close(prediction, made[block], atol=1e-4, rtol=1e-4)
    assert len(made) == num_blocks


def test_students_learn_under_the_rules_that_serve_them() -> None:
    """A student would be served as something that it never practised."""
    for rules in students.CHOICES["rules"]:
        assert Recipe(rules=rules).config(SCENES.stream) == under_rules(SCENES.stream, rules)
    without = Recipe(rules="rolling_forcing", sink=False).config(SCENES.stream)
    assert without.sink_frames == 0
    with pytest.raises(ValueError, match="rules is 'longlive'"):
        Recipe(rules="longlive")
    with pytest.raises(ValueError, match=r"window_share is 1\.5"):
        Recipe(rules="rolling_forcing", window_share=1.5)


def test_metadata_says_whose_clips_a_shard_holds(clips: SceneClips) -> None:
    """Test scenes could be learned from unnoticed."""
    about = clips.shards[0].metadata()
    assert about["split"] == "train"
    assert [each["seed"] for each in json.loads(about["clips"])] == [0, 1, 2]
    assert Path(clips.folder).is_dir()


def test_a_reader_is_asked_for_what_a_scene_shows(clips: SceneClips) -> None:
    """Words that are not in a picture would be counted."""
    words = [clips.words(i) for i in range(3)]
    found = {
        name: F.one_hot(
            torch.tensor([values.index(w.get(name, values[0])) for w in words]), len(values)
        )
        for name, values in CHOICES.items()
    }
    figures = seen(found, words)
    assert figures["words_seen"] == 1
    others = [{**w, "mood": "sad" if w["mood"] != "sad" else "angry"} for w in words]
    assert seen(found, others)["seen_mood"] == 0
    asked = sum(len(values) for values in right(found, words).values())
    assert asked == sum(map(len, words))


def test_a_reader_takes_a_clip_and_learns(clips: SceneClips) -> None:
    """It would read other frames than it learned from, or stand still."""
    frames = draw(scene(0, "train"), num_frames(7)).frames
    assert reader.looked_at(frames).shape == (27, 3, 96, 96)
    logits = reader.read(reader.Reader(), [frames, frames])
    assert {name: len(values[0]) for name, values in logits.items()} == {
        name: len(values) for name, values in CHOICES.items()
    }
    truth = [clips.words(0), clips.words(1)]
    network = reader.Reader()
    made = reader.loss(network(reader.looked_at(frames)[None].expand(2, -1, -1, -1, -1)), truth)
    made.backward()
    assert all(p.grad is not None for p in network.parameters())
