"""The video file holds the frames that were written, in size, number and colour, and the sound."""

from pathlib import Path

import av
import numpy as np
import pytest

from live_avatar_client import VideoWriter, read_audio
from tests.client.test_audio import tone, write_sound


def pictures(count: int, height: int = 64, width: int = 96) -> np.ndarray:
    """Frames whose left half is orange and whose right half's grey counts the frames."""
    frames = np.empty((count, height, width, 3), np.uint8)
    frames[:, :, : width // 2] = (230, 120, 40)
    frames[:, :, width // 2 :] = np.arange(40, 40 + 2 * count, 2)[:, None, None, None]
    return frames


def read_back(path: Path) -> tuple[np.ndarray, float, float]:
    """All frames, and the seconds of video and of decoded sound."""
    with av.open(str(path)) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        stream = container.streams.video[0]
        seconds = float(stream.duration * stream.time_base)
    with av.open(str(path)) as container:
        sound = container.streams.audio
        samples = sum(f.samples for f in container.decode(sound[0])) if sound else 0
        return np.stack(frames), seconds, samples / sound[0].rate if sound else 0.0


def test_frames_come_back_in_number_order_and_colour(tmp_path: Path) -> None:
    """A lost block or a wrong colour matrix would only show on the screen."""
    sent = pictures(30)
    with VideoWriter(tmp_path / "a.mp4") as writer:
        writer.write(sent[:12])
        writer.write(sent[12:24])
        writer.write(sent[24:])
    got, seconds, _ = read_back(tmp_path / "a.mp4")
    assert got.shape == sent.shape
    assert seconds == pytest.approx(30 / 25)
    # Middle of the halves, where chroma subsampling mixes nothing; crf 18 is off by a few steps.
    for column in (20, 76):
        difference = got[:, 32, column].astype(int) - sent[:, 32, column]
        assert np.abs(difference).max() <= 6


def test_samples_come_with_their_frames(tmp_path: Path) -> None:
    """A live face has no file of its sound: every picture brings its 40 ms."""
    wave = np.round(8000 * np.sin(np.arange(16_000) / 16_000 * 2 * np.pi * 440)).astype(np.int16)
    with VideoWriter(tmp_path / "a.mp4", sound_rate=16_000) as writer:
        for picture, sound in zip(pictures(25), wave.reshape(25, 640), strict=True):
            writer.write(picture[None], sound)
    _, video_s, sound_s = read_back(tmp_path / "a.mp4")
    assert video_s == pytest.approx(1.0)
    assert sound_s == pytest.approx(1.0, abs=0.07)  # AAC pads to frames of 1024 samples
    heard = np.concatenate(list(read_audio(tmp_path / "a.mp4")))[:16_000]
    assert np.corrcoef(heard[:12_000], wave[:12_000])[0, 1] > 0.99


def test_sound_has_one_source(tmp_path: Path) -> None:
    """Two would be written one above the other."""
    with pytest.raises(ValueError, match="not both"):
        VideoWriter(tmp_path / "a.mp4", sound_rate=16_000, audio_path="speech.wav")


@pytest.mark.parametrize("rate", [16_000, 44_100, 11_025])
@pytest.mark.parametrize("num_channels", [1, 2])
def test_sound_starts_with_the_video_and_is_cut_where_it_ends(
    tmp_path: Path, rate: int, num_channels: int
) -> None:
    """Sound that outlasts the picture keeps players on the last frame."""
    sound = write_sound(tmp_path / "s.wav", [tone(3.0, rate)] * num_channels, rate)
    with VideoWriter(tmp_path / "a.mp4", audio_path=sound) as writer:
        writer.write(pictures(12))
        writer.write(pictures(12))
    _, video_s, sound_s = read_back(tmp_path / "a.mp4")
    assert video_s == pytest.approx(0.96)
    # The decoder hands out whole AAC frames: up to one at each end.
    assert abs(sound_s - video_s) <= 2 * 1024 / min(rate, 16_000)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stated = container.streams.audio[0]
        assert float(stated.duration * stated.time_base) == pytest.approx(0.96, abs=0.001)


def test_short_sound_ends_before_the_video(tmp_path: Path) -> None:
    """The last frame may be due to a few samples only; that is no error."""
    sound = write_sound(tmp_path / "s.flac", [tone(0.3, 16_000)], 16_000)
    with VideoWriter(tmp_path / "a.mkv", audio_path=sound) as writer:
        writer.write(pictures(25))
    frames, _, sound_s = read_back_mkv(tmp_path / "a.mkv")
    assert frames == 25
    assert sound_s == pytest.approx(0.3, abs=2 * 1024 / 16_000)


def read_back_mkv(path: Path) -> tuple[int, float, float]:
    """Number of frames and seconds of sound; Matroska states no duration per stream."""
    with av.open(str(path)) as container:
        num_frames = sum(1 for _ in container.decode(video=0))
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        samples = sum(frame.samples for frame in container.decode(stream))
        return num_frames, num_frames / 25, samples / stream.rate


@pytest.mark.parametrize(("scale", "size"), [(2, (128, 192)), (None, (256, 384))])
def test_small_pictures_are_enlarged(tmp_path: Path, scale: int | None, size: tuple) -> None:
    """Players show a stamp badly; None asks for 256 pixels on the short side."""
    with VideoWriter(tmp_path / "a.mp4", scale=scale) as writer:
        writer.write(pictures(3))
    frames, _, _ = read_back(tmp_path / "a.mp4")
    assert frames.shape[1:3] == size


def test_an_interrupted_video_is_playable(tmp_path: Path) -> None:
    """What was made before the server failed is what the user has to look at."""
    sound = write_sound(tmp_path / "s.wav", [tone(3.0, 16_000)], 16_000)
    with VideoWriter(tmp_path / "a.mp4", audio_path=sound) as writer:
        writer.write(pictures(12))
        writer.__exit__(RuntimeError, RuntimeError("server failed"), None)
    frames, _, sound_s = read_back(tmp_path / "a.mp4")
    assert len(frames) == 12
    assert sound_s > 0.4


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Folder, type, odd size and changing size each have their own message."""
    with pytest.raises(ValueError, match="is not a folder"):
        VideoWriter(tmp_path / "none" / "a.mp4")
    with pytest.raises(ValueError, match=r"expected \.mp4"):
        VideoWriter(tmp_path / "a.txt")
    with pytest.raises(ValueError, match="even numbers"):
        VideoWriter(tmp_path / "a.mp4").write(pictures(1, height=63))
    with pytest.raises(ValueError, match=r"expected uint8 \[T, H, W, 3\]"):
        VideoWriter(tmp_path / "a.mp4").write(np.zeros((4, 4, 3), np.uint8))
    with VideoWriter(tmp_path / "a.mp4") as writer:
        writer.write(pictures(1))
        with pytest.raises(ValueError, match=r"frames are 32x64, this video is \(96, 64\)"):
            writer.write(pictures(1, width=32))
    assert not (tmp_path / "a.txt").exists()
