"""The frozen encoders are trained on what the server will give them, and saved as it loads them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from export.graphs.encoders import audio_graph, text_graph
from networks.audio_encoder import AudioEncoder, AudioFeatures
from networks.checkpoint import build_seeded
from networks.presets import Preset
from pipeline.avatar.audio import AudioWindow, StreamingAudio
from train.encoders import audio as encoder_audio
from train.encoders.__main__ import Training
from train.encoders.audio import NUM_FRAMES, AudioLesson, Sound, cut
from train.encoders.features import block_features, stream_windows
from train.encoders.prompts import CHOICES, of_faces, prompt
from train.encoders.text import TextLesson
from train.learning.loop import load_state, save_state
from train.preset import PRESET

RATE = 16_000


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    samples = np.random.default_rng(seed).normal(size=round(seconds * RATE))
    return (0.1 * samples).astype(np.float32)


def with_lookahead(num_frames: int) -> Preset:
    pipeline = dataclasses.replace(PRESET.pipeline, audio_lookahead_frames=num_frames)
    return dataclasses.replace(PRESET, pipeline=pipeline)


def live_windows(samples: np.ndarray, chunk: int) -> list[AudioWindow]:
    """As a session makes them from chunks of a client."""
    audio, windows = StreamingAudio(PRESET.pipeline), []
    for start in range(0, len(samples), chunk):
        audio.append(samples[start : start + chunk])
        while (window := audio.next_window()) is not None:
            windows.append(window)
    return windows


def test_windows_are_those_of_a_live_session() -> None:
    """The encoder would be trained on sound that it never gets when it serves."""
    samples = noise(4.5)
    live = live_windows(samples, 1111)
    assert len(live) > 6  # more than the context, so some windows have left the start behind
    for first in (0, 3):
        made = stream_windows(samples, range(first, len(live)), PRESET.pipeline)
        for one, other in zip(made, live[first:], strict=True):
            assert one.block == other.block
            for name in ("samples", "frame_index", "frame_weight"):
                assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_a_block_without_its_lookahead_is_refused() -> None:
    """It would be made from less sound than a live stream waits for."""
    with pytest.raises(ValueError, match="1 blocks"):
        stream_windows(noise(24 * 0.04), range(2), with_lookahead(1).pipeline)


@torch.no_grad()
def test_features_of_a_batch_are_those_of_the_served_graph() -> None:
    """The DiT would learn to read features that the server's encoder does not give."""
    encoder = build_seeded(lambda: AudioEncoder(PRESET.audio), 0)
    served = AudioFeatures(encoder)
    windows = live_windows(noise(3.5), 5000)
    made = block_features(encoder, windows)
    assert len({w.samples.shape for w in windows}) > 2
    for window, features in zip(windows, made, strict=True):
        one = served(*map(torch.from_numpy,
                          (window.samples, window.frame_index, window.frame_weight)))  # fmt: skip
        # Values are about 1; sums in another order differ in the last digits of float32.
        torch.testing.assert_close(features, one[0], atol=2e-5, rtol=0)


def test_the_truth_is_that_of_the_same_frames() -> None:
    """Lips would lag or lead by what the encoder was taught."""
    mouth = np.repeat(np.arange(NUM_FRAMES, dtype=np.float32)[:, None], 3, 1)
    source = Sound(noise(NUM_FRAMES * 0.04), mouth)
    for block in (0, 2, 9):
        windows = cut([(source, block)], PRESET.pipeline)
        (live,) = stream_windows(source.samples, range(block, block + 1), PRESET.pipeline)
        assert windows.curves[0, -12:, 0].tolist() == list(range(12 * block, 12 * block + 12))
        assert np.array_equal(windows.index[0, -12:], live.frame_index)
        assert np.array_equal(windows.weight[0, -12:], live.frame_weight)


def test_what_a_step_hears_follows_from_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run would not be the run that was stopped."""
    still = np.zeros((NUM_FRAMES, 3), np.float32)
    monkeypatch.setattr(
        encoder_audio, "draw_sound", lambda seed, _: Sound(noise(NUM_FRAMES * 0.04, seed), still)
    )
    going, resumed = (AudioLesson(PRESET, 0, (0, 2)) for _ in range(2))
    for step in (0, 40, 200):
        last = going.batch(step)
    assert torch.equal(last.samples, resumed.batch(200).samples)
    assert not torch.equal(last.samples[:1, :9000], going.batch(201).samples[:1, :9000])


def test_a_prompt_says_what_its_labels_say() -> None:
    """The encoder would learn noise, and prompts would have no effect."""
    rng, short = np.random.default_rng(0), 0
    words = {"hair_name", "mood", "glasses", "beard", "garment", "cloth_name", "cloth_pattern",
             "wall_name"}  # fmt: skip
    for _ in range(400):
        text, said = prompt(rng)
        short += len(text) < 60
        assert all(value in CHOICES[name] for name, value in said.items())
        for name in words & set(said):
            assert said[name].lower() in text.lower(), (text, said)
        moods = [mood for mood in CHOICES["mood"] if mood in text.lower()]
        assert moods == ([said["mood"]] if "mood" in said else []), (text, said)
    assert 50 < short < 350


def test_padding_that_is_left_out_changes_no_row() -> None:
    """Training would see other rows than the server, which pads to text_len."""
    lesson = TextLesson(of_faces(PRESET), 0)
    texts = ["a happy person", "an angry woman with red hair"]
    short = lesson.tokens(texts)
    whole = [torch.cat([torch.from_numpy(lesson.tokenizer(t)[n]) for t in texts])
             for n in ("token_ids", "token_mask")]  # fmt: skip
    encoder = lesson.model.encoder.eval()
    length = short[0].shape[1]
    assert length < whole[0].shape[1]
    with torch.no_grad():
        # Sums in another order differ in the last digits of float32.
        torch.testing.assert_close(encoder(*short), encoder(*whole)[:, :length], atol=1e-5, rtol=0)


def test_weights_are_saved_as_the_exporter_loads_them(tmp_path: Path) -> None:
    """Trained weights could not be served."""
    audio, text = AudioLesson(PRESET, 0, (2,)), TextLesson(of_faces(PRESET), 0)
    for lesson in (audio, text):
        lesson.save(lesson.model, tmp_path)
    for graph, lesson in ((audio_graph, audio), (text_graph, text)):
        served = graph(PRESET, tmp_path).module.state_dict()
        for name, trained in lesson.model.encoder.state_dict().items():
            assert any(n.endswith(name) and torch.equal(t, trained) for n, t in served.items())


def test_a_resumed_run_is_the_run_that_was_not_stopped(tmp_path: Path) -> None:
    """A stopped training would end with other weights."""

    def learner() -> Training:
        torch.manual_seed(0)
        return Training(TextLesson(of_faces(PRESET), 0))

    whole = learner()
    for step in range(4):
        whole.learn(step / 4)
    first = learner()
    for step in range(2):
        first.learn(step / 4)
    save_state(first, tmp_path)
    second = learner()
    load_state(second, tmp_path)
    for step in range(2, 4):
        second.learn(step / 4)
    for name, value in whole.average.state_dict().items():
        assert torch.equal(value, second.average.state_dict()[name]), name


def test_there_must_be_something_to_resume(tmp_path: Path) -> None:
    """A wrong folder would start a fresh run in silence."""
    with pytest.raises(ValueError, match="nothing to resume"):
        load_state(Training(TextLesson(of_faces(PRESET), 0)), tmp_path)
