"""The DiT's training clips: what is stored is what a live stream would have."""

import shutil
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import torch

from export.presets import init_weights
from networks.audio_encoder import AudioFeatures
from networks.checkpoint import load_tensors, save_tensors
from networks.compact_vae import CompactVAE
from pipeline.avatar.audio import StreamingAudio
from train.latents import takes as latent_takes
from train.latents.clips import LatentBatch, LatentClips, write_shards
from train.latents.takes import LEAD_FRAMES, FrozenNetworks, Take, draw_take
from train.preset import PRESET
from train.vae.video import to_video
from train.world.render import REGIONS

CONFIG = PRESET.pipeline
FIRST, CLIPS, BLOCKS = 4, 3, 2
"""Seeds from FIRST on; among these are clips that start their stream and one that does not."""
HALF = 2e-3
"""Stored as float16: 11 bits of values that are about 1."""


def fake_sound(seed: int, num_samples: int, split: str) -> tuple[np.ndarray, str, str]:
    """Sound without espeak-ng: a humming that swells."""
    t = np.arange(num_samples) / CONFIG.sample_rate
    swell = np.sin(2 * np.pi * (0.7 + 0.1 * seed % 1) * t) ** 2
    hum = sum(np.sin(2 * np.pi * 130 * k * t) / k for k in range(1, 12))
    return (0.1 * swell * hum).astype(np.float32), "speech", "hum"


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> FrozenNetworks:
    folder = tmp_path_factory.mktemp("weights")
    init_weights(PRESET, folder, 0)
    return FrozenNetworks.load(folder)


@pytest.fixture(scope="module")
def folder(networks: FrozenNetworks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latent_takes, "sound", fake_sound)
        assert len(list(write_shards(path, "train", CLIPS, BLOCKS, networks, FIRST))) == 1
    return path


@pytest.fixture
def takes(networks: FrozenNetworks, monkeypatch: pytest.MonkeyPatch) -> list[Take]:
    monkeypatch.setattr(latent_takes, "sound", fake_sound)
    return [draw_take(seed, "train", BLOCKS, networks) for seed in range(FIRST, FIRST + CLIPS)]


def whole(folder: Path) -> LatentBatch:
    """All clips in their order, with their captions."""
    clips = LatentClips(folder)

    class InOrder(np.random.Generator):
        def choice(self, count: int, size: int, replace: bool = True) -> np.ndarray:
            return np.arange(size)

    return clips.batch(InOrder(np.random.PCG64(0)), CLIPS, BLOCKS, text_dropout=0.0)


def test_clips_that_come_later_are_taken_in(folder: Path, tmp_path: Path) -> None:
    """A trainer beside the one that draws would see the same few clips again and again."""
    (shard,) = folder.glob("*.safetensors")
    shutil.copy(shard, tmp_path / "one.safetensors")
    clips = LatentClips(tmp_path)
    assert len(clips) == CLIPS
    shutil.copy(shard, tmp_path / "another.safetensors")
    clips.refresh()
    clips.refresh()
    assert len(clips) == 2 * CLIPS
    assert {number for number, _ in clips.clips} == {0, 1}


def test_a_batch_has_the_shapes_it_states(folder: Path) -> None:
    """The DiT's training is written against them."""
    batch = LatentClips(folder).batch(np.random.default_rng(0), 4, 1)
    c, frames = CONFIG, CONFIG.frames_per_block
    picture = (c.latent_height, c.latent_width)
    shapes = {
        "latents": (4, c.latent_channels, frames, *picture),
        "audio_features": (4, 1, c.audio_layers, c.audio_dim, c.video_frames_per_block),
        "text": (4, c.text_len, c.text_dim),
        "reference": (4, c.latent_channels, 1, *picture),
        "motion": (4, c.latent_channels, c.motion_frames, *picture),
        "mouth": (4, c.video_frames_per_block, 3),
        "regions": (4, frames, 2, *picture),
        "first_block": (4,),
        "starts": (4,),
    }
    assert {name: tuple(getattr(batch, name).shape) for name in shapes} == shapes
    assert torch.equal(batch.reference, batch.motion[:, :, :1])
    assert torch.equal(batch.starts, batch.first_block == 0)


@torch.no_grad()
def test_latents_show_the_frames_of_their_block(
    folder: Path, networks: FrozenNetworks, takes: list[Take]
) -> None:
    """Mouths would be learned with a shift against the sound."""
    assert isinstance(networks.vae, CompactVAE)
    stored = whole(folder)
    for row, take in enumerate(takes):
        end = LEAD_FRAMES + 12 * BLOCKS
        latents = networks.vae.encode(to_video(take.clip.frames[:end])[None])
        # Frame 9 is the first of the fourth latent: 1 + 4 + 4 frames are before it.
        torch.testing.assert_close(stored.latents[row], latents[0, :, 3:], atol=HALF, rtol=HALF)
        mouth = np.stack(astuple(take.clip.mouth), 1)[LEAD_FRAMES:end]
        np.testing.assert_allclose(stored.mouth[row], mouth, atol=HALF)
        eyes = take.clip.regions[LEAD_FRAMES : LEAD_FRAMES + 4, 8:16, 24:32]
        share = (eyes == REGIONS.index("eyes")).mean()
        assert abs(float(stored.regions[row, 0, 1, 1, 3]) - share) < HALF


@torch.no_grad()
def test_features_are_those_of_a_live_stream(folder: Path, networks: FrozenNetworks) -> None:
    """The DiT would be trained on features that it never gets."""
    served, stored = AudioFeatures(networks.audio), whole(folder)
    for row in range(CLIPS):
        first = int(stored.first_block[row])
        frames = (first + BLOCKS) * 12 + CONFIG.audio_lookahead_frames
        audio = StreamingAudio(CONFIG)
        audio.append(fake_sound(FIRST + row, frames * CONFIG.samples_per_frame, "train")[0])
        for block in range(first + BLOCKS):
            window = audio.next_window()
            assert window is not None
            if block >= first:
                made = served(*map(torch.from_numpy, (window.samples, window.frame_index,
                                                      window.frame_weight)))  # fmt: skip
                kept = stored.audio_features[row, block - first]
                torch.testing.assert_close(kept, made[0], atol=HALF, rtol=HALF)


def test_sound_and_picture_of_a_clip_belong_together(takes: list[Take]) -> None:
    """The mouth would move to other sound than the features are made of."""
    assert {take.first_block == 0 for take in takes} == {True, False}
    for seed, take in enumerate(takes, FIRST):
        size = CONFIG.samples_per_frame
        begin = take.first_block * 12 * size
        samples = fake_sound(seed, begin + 24 * size, "train")[0]
        shown = take.clip.audio[LEAD_FRAMES * size :][: 24 * size]
        np.testing.assert_array_equal(shown, samples[begin:])
        if take.first_block == 0:  # nothing is heard before a stream
            assert not take.clip.audio[: LEAD_FRAMES * size].any()


def test_text_is_dropped_as_often_as_asked(folder: Path, networks: FrozenNetworks) -> None:
    """The avatar could not do without a prompt, or would ignore it."""
    clips, rng = LatentClips(folder), np.random.default_rng(0)
    with torch.no_grad():
        empty = networks.text_rows("")
    dropped, kept = (clips.batch(rng, 3, 1, text_dropout=share).text for share in (1.0, 0.0))
    torch.testing.assert_close(dropped, empty.expand_as(dropped), atol=HALF, rtol=HALF)
    assert (kept[:, 20].abs().sum(1) > 0).all()  # row 20 is beyond an empty prompt's end


def test_pieces_begin_at_every_block(folder: Path) -> None:
    """The network would know some positions of a stream only."""
    clips, rng = LatentClips(folder), np.random.default_rng(0)
    firsts = torch.cat([clips.batch(rng, CLIPS, 1).first_block for _ in range(8)])
    starts = whole(folder).first_block
    assert set(firsts.tolist()) == {int(s) + b for s in starts for b in range(BLOCKS)}


def test_shards_are_made_once_and_of_one_set_of_weights(
    folder: Path, networks: FrozenNetworks, tmp_path: Path
) -> None:
    """A run that goes on after a stop would begin again, or mix latents of two networks."""
    shutil.copytree(folder, tmp_path / "clips")
    (path,) = write_shards(tmp_path / "clips", "train", CLIPS, BLOCKS, networks, FIRST)
    assert path.read_bytes() == (folder / path.name).read_bytes()
    vae = load_tensors(networks.folder / "vae.safetensors")
    weights = tmp_path / "weights"
    shutil.copytree(networks.folder, weights)
    decoder = {k: t + 1 if k.startswith("decoder") else t for k, t in vae.items()}
    save_tensors(decoder, weights / "vae.safetensors")
    assert FrozenNetworks.load(weights).digest == networks.digest
    init_weights(PRESET, weights, 1)
    with pytest.raises(ValueError, match="another folder"):
        list(write_shards(tmp_path / "clips", "train", CLIPS, BLOCKS,
                          FrozenNetworks.load(weights), FIRST))  # fmt: skip


def test_pieces_longer_than_clips_are_refused(folder: Path, tmp_path: Path) -> None:
    """They would be cut short without a word."""
    with pytest.raises(ValueError, match="pieces of 3 blocks, clips have 2"):
        LatentClips(folder).batch(np.random.default_rng(0), 1, 3)
    with pytest.raises(ValueError, match="no shards"):
        LatentClips(tmp_path)
