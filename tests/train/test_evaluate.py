"""The evaluation on streams whose faults are known, and where streams come from."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from live_avatar_client import VideoWriter
from networks.checkpoint import build_seeded
from networks.compact_vae import CompactVAE, build_vae
from networks.configs import CompactVAEConfig
from train.evaluate import __main__ as command
from train.evaluate.metrics_motion import ChangeMeter
from train.evaluate.run import PIECE, RunScore, Score
from train.evaluate.sources import ArtifactsSource, ReconstructionSource, TruthSource
from train.evaluate.video import read_sound, read_video
from train.preset import SIZE
from train.world.clips import Take, take

ROOT = Path(__file__).parents[2]
SPEECH = ROOT / "examples" / "speech.flac"
NUM_FRAMES = 2 * PIECE
LAG = 3


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """The example sentence again and again: ten seconds, of which the last is silent."""
    samples = np.resize(read_sound(SPEECH), NUM_FRAMES * 640)
    samples[-25 * 640 :] = 0
    return samples


@pytest.fixture(scope="module")
def takes(speech: np.ndarray) -> list[Take]:
    """Two unseen faces; the second one says the same backwards."""
    return [take(5, NUM_FRAMES, audio=speech), take(6, NUM_FRAMES, audio=speech[::-1])]


@pytest.fixture(scope="module")
def true_frames(takes: list[Take]) -> np.ndarray:
    return np.concatenate(list(TruthSource().generate(takes[:1], 0)), 1)[0]


def score(takes: list[Take], frames: np.ndarray, length: int = 12) -> Score:
    """Score the first take's frames as a stream of pieces."""
    running = RunScore(takes[0], takes)
    for start in range(0, len(frames), length):
        running.add(frames[start : start + length])
    return running.finish()


@pytest.fixture(scope="module")
def truth(takes: list[Take], true_frames: np.ndarray) -> Score:
    return score(takes, true_frames)


@pytest.fixture(scope="module")
def spoilt(takes: list[Take], true_frames: np.ndarray) -> Score:
    """Late by three frames, its clothes and skin drifting by 4/255, flickering from latent to
    latent."""
    frames = np.concatenate([true_frames[:1].repeat(LAG, 0), true_frames[:-LAG]]).astype(np.int16)
    frames += (4 * (np.arange(NUM_FRAMES) >= PIECE)).astype(np.int16)[:, None, None, None]
    frames += (2 * (np.arange(NUM_FRAMES) // 4 % 2)).astype(np.int16)[:, None, None, None]
    return score(takes, np.clip(frames, 0, 255).astype(np.uint8))


def test_the_truth_is_found_true(truth: Score) -> None:
    """A metric that does not find the renderer perfect judges nothing."""
    found = truth.figures
    assert found["opening"] > 0.97
    assert found["width"] > 0.9
    assert found["lag"] == 0
    assert found["open_in_silence"] < 0.05
    assert found["change"] == pytest.approx(found["change_true"])
    assert found["head_motion"] == pytest.approx(found["head_motion_true"], rel=0.05)
    assert found["sharpness"] == pytest.approx(found["sharpness_true"], rel=0.03)
    # Errors of the pose that was read: a tenth of what a gate allows.
    for region, limit in (("background", 0.1), ("clothes", 0.3), ("skin", 0.6), ("hair", 0.6)):
        assert found[f"colour_{region}"] < limit, region
    assert abs(found["drift_end"]) < 0.3
    assert found["flicker"] < 1e-3  # a pixel that moves once, three pixels from the rest
    assert found["is_itself"] == 1
    assert found["margin"] > 0.9


def test_a_late_picture_is_late_by_as_many_frames(spoilt: Score) -> None:
    """Half a second of delay would only look like poor sync."""
    assert spoilt.figures["lag"] == LAG
    assert np.argmax(spoilt.curves["lags"]) == LAG + 10


def test_drifting_colours_fail_the_gate(spoilt: Score) -> None:
    """Streams of ten minutes die of it."""
    assert 3 < spoilt.figures["drift_end"] < 6.2  # 4, and up to 2 of flicker
    assert spoilt.figures["colour_clothes_end"] > 3


def test_flicker_at_borders_fails_the_gate(truth: Score, spoilt: Score) -> None:
    """It passes for motion."""
    assert spoilt.figures["flicker"] == pytest.approx(2, abs=0.1)
    ratios = [s.figures["change_border"] / s.figures["change_inside"] for s in (spoilt, truth)]
    assert ratios[0] > 1.5 * ratios[1]


def test_a_frozen_mouth_is_far_from_sync(takes: list[Take], true_frames: np.ndarray) -> None:
    """Heads that only nod would pass. Nodding with the voice is read as a little opening: 0.3 at
    most in 20 s of six faces."""
    who = takes[0]
    short = take(5, PIECE, audio=who.audio)
    pose, expression = short.motion(0)
    silent = take(5, PIECE, audio=np.zeros(PIECE * 640))
    frames = silent.draw(slice(0, PIECE), (pose, expression))
    found = score([short, takes[1]], frames).figures
    assert abs(found["opening"]) < 0.4
    assert found["change"] < found["change_true"]


def test_a_stream_that_ends_early_is_no_result(takes: list[Take], true_frames: np.ndarray) -> None:
    """The first seconds are the easy ones."""
    running = RunScore(takes[0], [])
    running.add(true_frames[:50])
    with pytest.raises(RuntimeError, match="50 frames came"):
        running.finish()


def test_of_a_long_stream_only_the_pieces_asked_for_are_measured(
    takes: list[Take], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten minutes of poses would take longer than the video."""
    measured: list[int] = []
    monkeypatch.setattr(
        RunScore, "_measure", lambda self, frames, first: measured.append(first // PIECE)
    )
    long = take(5, 5 * PIECE, audio=takes[0].audio)
    running = RunScore(long, [], piece_every=2)
    for _ in range(0, long.num_frames, 25):
        running.add(np.zeros((25, SIZE, SIZE, 3), np.uint8))
    assert measured == [0, 1, 3]


@pytest.fixture(scope="module")
def vae() -> CompactVAE:
    return build_seeded(lambda: build_vae(CompactVAEConfig()), 0)


def test_reconstructions_do_not_depend_on_the_pieces_they_are_made_in(
    takes: list[Take], vae: CompactVAE
) -> None:
    """The cap would be that of a stream with seams."""
    short = [take(5, 70, audio=takes[0].audio)]
    made = []
    for piece in (24, 240):
        source = ReconstructionSource(vae)
        source.piece = piece
        made.append(np.concatenate(list(source.generate(short, 0)), 1))
    assert made[0].shape == (1, 70, SIZE, SIZE, 3)
    assert np.abs(made[0].astype(int) - made[1]).max() <= 1  # sums in another order, then rounding


def test_the_served_code_is_judged_to_the_frame(speech: np.ndarray) -> None:
    """The last block of a stream is rarely whole; sessions follow one another."""
    source = ArtifactsSource(ROOT / "artifacts" / "demo")
    wanted = take(5, 28, audio=speech)
    try:
        source.request_s = 1
        frames = [np.concatenate(list(source.generate([wanted], s)), 1) for s in (0, 1)]
    finally:
        source.close()
    assert frames[0].shape == frames[1].shape == (1, 28, SIZE, SIZE, 3)
    assert not np.array_equal(frames[0], frames[1])


def test_a_take_does_not_depend_on_its_batch(speech: np.ndarray, vae: CompactVAE) -> None:
    """A run that goes on after a stop has other neighbours."""
    from networks.audio_encoder import AudioEncoder
    from networks.dit import DiT
    from networks.text_encoder import TextEncoder
    from train.evaluate.sources import TorchSource
    from train.latents.takes import FrozenNetworks
    from train.network.stream_network import RolloutOptions
    from train.preset import PRESET

    networks = FrozenNetworks(
        PRESET.pipeline,
        vae,
        build_seeded(lambda: AudioEncoder(PRESET.audio), 0),
        build_seeded(lambda: TextEncoder(PRESET.text), 0),
    )
    dit = build_seeded(lambda: DiT(PRESET.dit), 0)
    pair = [take(face, 20, audio=speech) for face in (5, 6)]
    source = TorchSource(dit, networks, RolloutOptions(num_steps=1))
    together = np.concatenate(list(source.generate(pair, 0)), 1)
    alone = np.concatenate(list(source.generate(pair[1:], 0)), 1)
    assert together.shape == (2, 24, SIZE, SIZE, 3)
    assert np.abs(together[1].astype(int) - alone[0]).max() <= 1  # sums in another order
    assert not np.array_equal(together[0], together[1])


def test_a_saved_stream_is_read_as_it_was_sent(
    tmp_path: Path, true_frames: np.ndarray, speech: np.ndarray
) -> None:
    """A video judged from outside must not be judged by its file format."""
    path = tmp_path / "stream.mp4"
    with VideoWriter(path, audio_path=SPEECH, scale=None) as video:
        video.write(true_frames[:30])
    frames = np.concatenate(list(read_video(path, piece=25)))
    assert frames.shape == (30, SIZE, SIZE, 3)
    assert np.abs(frames.astype(int) - true_frames[:30]).mean() < 2  # lossy, chroma halved
    assert np.corrcoef(read_sound(path)[:16000], speech[:16000])[0, 1] > 0.95
    with pytest.raises(ValueError, match="multiple of 40"):
        next(read_video(path, 40))
    with pytest.raises(ValueError, match="no pictures"):
        next(read_video(SPEECH))


def test_a_video_is_judged_by_the_command(
    tmp_path: Path,
    true_frames: np.ndarray,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stream saved by a client is judged without the model that made it."""
    path = tmp_path / "stream.mp4"
    with VideoWriter(path, audio_path=SPEECH, scale=None) as video:
        video.write(true_frames[:75])
    arguments = ["evaluate", "--video", str(path), "--audio", str(SPEECH), "--json"]
    monkeypatch.setattr("sys.argv", arguments)
    monkeypatch.setattr(command, "NUM_OTHERS", 0)
    with pytest.raises(SystemExit):  # it would be compared with whoever is first
        command.main()
    assert "--video wants --face" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", [*arguments, "--face", "5"])
    command.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["opening"] > 0.95
    assert found["lag"] == 0
    assert found["colour_skin"] < 3
    assert all(math.isfinite(v) for v in found.values())


def test_a_mood_that_only_the_prompt_tells_is_read_from_the_mouths(speech: np.ndarray) -> None:
    """The portrait would tell it too, or a smile be counted whatever the prompt said."""
    audio = speech[: 30 * 640]
    told = [take(4, 30, audio=audio, mood=mood, told=True) for mood in ("happy", "sad")]
    shown = take(4, 30, audio=audio, mood="happy")
    assert np.array_equal(told[0].reference, told[1].reference)
    assert not np.array_equal(told[0].reference, shown.reference)
    assert [mood in t.caption.lower() for mood, t in zip(("happy", "sad"), told, strict=True)]
    frames = told[0].draw(slice(0, 30), told[0].motion(0))
    figures = [score([t], frames).figures for t in (*told, shown)]
    assert [f.get("mood") for f in figures] == [1, 0, None]


def test_pieces_of_the_meter_are_those_of_the_stream(truth: Score, true_frames: np.ndarray) -> None:
    """What is scored is what was streamed."""
    meter = ChangeMeter()
    meter.add(true_frames)
    assert truth.figures["change"] == pytest.approx(meter.figures()["change"])
    assert truth.pictures.shape == (2 * SIZE, 2 * SIZE, 3)
    assert truth.curves["at"].tolist() == list(range(NUM_FRAMES))
