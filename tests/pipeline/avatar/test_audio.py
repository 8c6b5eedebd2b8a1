"""Windows of a live sound: what belongs to which block, and that chunks leave no trace."""

import dataclasses

import numpy as np
import pytest

from pipeline.avatar.audio import (
    FIELD,
    HOP,
    WITHDRAWABLE,
    AudioWindow,
    StreamingAudio,
    frame_places,
    normalise,
    num_hidden_frames,
)
from pipeline.config.avatar import PipelineConfig

CONFIG = PipelineConfig(
    preset="test",
    height=64,
    width=64,
    num_layers=1,
    num_heads=1,
    head_dim=8,
    text_len=8,
    text_dim=8,
    audio_layers=2,
    audio_dim=8,
    audio_context_frames=30,
)
BLOCK = CONFIG.samples_per_block
FRAME = CONFIG.samples_per_frame


def sound(num_samples: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(num_samples)
    loudness = np.linspace(0.1, 0.9, num_samples)  # so that mean and variance drift
    return (0.3 * noise * loudness + 0.05).astype(np.float32)


def windows(
    samples: np.ndarray, chunk: int | None = None, config: PipelineConfig = CONFIG
) -> list[AudioWindow]:
    """All windows of a finished stream that came in chunks of one size."""
    stream, taken = StreamingAudio(config), []
    for start in range(0, len(samples), chunk or len(samples)):
        stream.append(samples[start : start + (chunk or len(samples))])
        while window := stream.next_window():
            taken.append(window)
    stream.finish()
    while window := stream.next_window():
        taken.append(window)
    return taken


def assert_equal(got: list[AudioWindow], wanted: list[AudioWindow]) -> None:
    assert len(got) == len(wanted)
    for one, other in zip(got, wanted, strict=True):
        for field in dataclasses.fields(AudioWindow):
            a, b = getattr(one, field.name), getattr(other, field.name)
            assert np.array_equal(a, b), f"block {one.block}: {field.name} differs"


@pytest.mark.parametrize("lookahead", [0, 5])
@pytest.mark.parametrize("chunk", [1_000, FRAME, BLOCK, 3 * BLOCK + 17])
def test_chunk_sizes_do_not_matter(chunk: int, lookahead: int) -> None:
    """A client's buffering would change its video; equality is exact, not approximate."""
    config = dataclasses.replace(CONFIG, audio_lookahead_frames=lookahead)
    samples = sound(6 * BLOCK + 1234)
    assert_equal(windows(samples, chunk, config), windows(samples, None, config))


def test_single_samples_make_the_same_windows() -> None:
    """The smallest chunks there are."""
    samples = sound(BLOCK + 50)
    assert_equal(windows(samples, 1), windows(samples))


def test_more_sound_never_changes_an_earlier_window() -> None:
    """A block that was sent can't be taken back."""
    samples = sound(5 * BLOCK)
    assert_equal(windows(samples[: 3 * BLOCK], FRAME), windows(samples, FRAME)[:3])


def test_a_block_waits_for_its_last_sample_and_the_lookahead() -> None:
    """A block that starts early would not have heard its own sound."""
    config = dataclasses.replace(CONFIG, audio_lookahead_frames=2)
    stream = StreamingAudio(config)
    stream.append(sound(BLOCK + 2 * FRAME - 1))
    assert stream.next_window() is None
    assert stream.num_blocks == 0
    stream.append(sound(1))
    assert stream.num_blocks == 1
    window = stream.next_window()
    assert window is not None
    assert window.samples.shape == (1, BLOCK + 2 * FRAME)
    assert stream.next_window() is None
    assert stream.num_samples_pending == 2 * FRAME


def test_a_window_is_context_and_block_and_lookahead() -> None:
    """Features lie where the window says, so its start must be the one that was meant."""
    config = dataclasses.replace(CONFIG, audio_context_frames=18, audio_lookahead_frames=3)
    samples = sound(6 * BLOCK)
    for window in windows(samples, FRAME, config):
        first = 12 * window.block
        start, end = max(first - 18, 0) * FRAME, min(first + 15, 6 * 12) * FRAME
        heard = samples[:end].astype(np.float64)
        wanted = normalise(samples[start:end], heard.mean(), heard.var())
        assert window.samples.shape == wanted.shape
        assert np.abs(window.samples - wanted).max() < 1e-6  # one rounding of float32


def test_full_context_and_lookahead_is_the_whole_file() -> None:
    """With nothing left out a stream equals the release's encoding of whole files."""
    config = dataclasses.replace(CONFIG, audio_context_frames=999, audio_lookahead_frames=999)
    samples = sound(4 * BLOCK)
    whole = normalise(samples, float(samples.mean()), float(samples.var()))
    taken = windows(samples, FRAME, config)
    assert [window.block for window in taken] == [0, 1, 2, 3]
    for window in taken:
        assert np.abs(window.samples - whole).max() < 1e-5  # mean and variance in float32
    index = np.concatenate([window.frame_index for window in taken])
    assert index.tolist() == frame_places(0, 48, 0, 95, fps=25, rate=16_000)[0].tolist()


def test_the_last_block_is_filled_with_silence() -> None:
    """Its missing samples count as silence in the volume too, and its frames are not all real."""
    samples = sound(BLOCK + FRAME + 1)
    first, last = windows(samples, FRAME)
    assert (first.num_frames, last.num_frames) == (12, 2)
    padded = np.pad(samples, (0, 2 * BLOCK - len(samples)))
    wanted = normalise(padded, padded.mean(dtype=np.float64), padded.var(dtype=np.float64))
    assert np.abs(last.samples - wanted).max() < 1e-6


@pytest.mark.parametrize("num_samples", [1, 2, FIELD - 1, FRAME, FRAME + 1, BLOCK, BLOCK + 1])
def test_short_sounds_give_a_frame_per_begun_40_ms(num_samples: int) -> None:
    """wav2vec2 can't take less than 400 samples, so a window is never shorter than a block."""
    taken = windows(sound(num_samples))
    assert sum(window.num_frames for window in taken) == -(-num_samples // FRAME)
    assert all(window.samples.shape[1] >= BLOCK for window in taken)
    assert all(np.isfinite(window.samples).all() for window in taken)


def test_no_sound_gives_no_block() -> None:
    """An END without audio must not invent half a second."""
    stream = StreamingAudio(CONFIG)
    stream.finish()
    assert stream.next_window() is None
    assert stream.num_blocks == 0


def test_silence_stays_silence() -> None:
    """Its variance is zero: dividing by it would make noise or NaN of it."""
    for window in windows(np.zeros(2 * BLOCK, np.float32), FRAME):
        assert not window.samples.any()


def test_memory_is_flat_over_an_hour() -> None:
    """Endless streams must fit."""
    stream, chunk, most = StreamingAudio(CONFIG), sound(BLOCK), 0
    for _ in range(3600 * CONFIG.sample_rate // BLOCK):
        stream.append(chunk)
        assert stream.next_window() is not None
        most = max(most, stream.num_samples_kept)
        assert sum(len(part) for part in stream._chunks) == stream.num_samples_kept
    assert most == CONFIG.audio_context_frames * FRAME + WITHDRAWABLE * BLOCK
    assert stream.num_samples == 3600 * CONFIG.sample_rate


def test_a_long_backlog_is_not_copied_for_every_block() -> None:
    """Windows are cut on the thread that serves all sessions."""
    stream = StreamingAudio(CONFIG)
    for _ in range(10):
        stream.append(np.zeros(600 * BLOCK, np.float32))
    backlog = list(stream._chunks)[1:]
    for _ in range(50):
        assert stream.next_window() is not None
    assert all(now is then for now, then in zip(list(stream._chunks)[1:], backlog, strict=True))


def test_places_follow_the_clock_of_30_per_second() -> None:
    """Frame k takes feature round(1.2 k), which lies at 5/3 of that in hidden frames."""
    index, weight = frame_places(0, 6, 0, 100, fps=25, rate=16_000)
    wanted = [feature * 5 / 3 for feature in (0, 1, 2, 4, 5, 6)]
    assert np.allclose(index + weight, wanted, atol=1e-6)


def test_places_do_not_depend_on_where_the_window_begins() -> None:
    """The same moment must be the same sample in every window."""
    whole = frame_places(60, 12, 0, 1000, fps=25, rate=16_000)
    later = frame_places(60, 12, 24 * FRAME, 1000, fps=25, rate=16_000)
    assert np.array_equal(later[0] + 24 * FRAME // HOP, whole[0])
    assert np.array_equal(later[1], whole[1])


def test_places_stay_inside_the_window() -> None:
    """An index past the last hidden frame would fail on the server, one before it wrap around."""
    for window in windows(
        sound(7 * BLOCK), FRAME, dataclasses.replace(CONFIG, audio_context_frames=0)
    ):
        last = num_hidden_frames(window.samples.shape[1]) - 1
        assert window.frame_index.min() >= 0
        assert window.frame_index.max() <= last
        assert window.frame_weight.min() >= 0
        assert window.frame_weight.max() < 1
        assert window.frame_weight[window.frame_index == last].sum() == 0


def test_number_of_hidden_frames_follows_the_convolutions() -> None:
    """The chain of floors over wav2vec2's seven layers."""
    for num_samples in (400, 719, 720, 7680, 12_345, 110_592):
        length = num_samples
        for kernel, stride in zip((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), strict=True):
            length = (length - kernel) // stride + 1
        assert num_hidden_frames(num_samples) == length
    assert num_hidden_frames(FIELD - 1) == 0


def test_what_is_no_sound_is_refused() -> None:
    """One NaN would poison the running volume for the rest of the stream."""
    stream = StreamingAudio(CONFIG)
    with pytest.raises(ValueError, match="not finite"):
        stream.append(np.array([0, np.nan], np.float32))
    with pytest.raises(ValueError, match=r"float64\[4\], wanted float32"):
        stream.append(np.zeros(4))
    with pytest.raises(ValueError, match=r"float32\[2, 4\]"):
        stream.append(np.zeros((2, 4), np.float32))
    stream.finish()
    with pytest.raises(RuntimeError, match="after the end"):
        stream.append(np.zeros(4, np.float32))


def test_the_callers_buffer_may_be_reused() -> None:
    """Servers hand out views into memory that the next request overwrites."""
    stream, buffer = StreamingAudio(CONFIG), sound(BLOCK)
    wanted = windows(buffer.copy())[0]
    stream.append(buffer)
    buffer[:] = 0
    window = stream.next_window()
    assert window is not None
    assert np.array_equal(window.samples, wanted.samples)


@pytest.mark.parametrize("back", range(WITHDRAWABLE + 1))
@pytest.mark.parametrize("lookahead", [0, 2])
def test_sound_that_was_withdrawn_leaves_no_trace(back: int, lookahead: int) -> None:
    """The next word would be as loud as the one that was cut off made it."""
    config = dataclasses.replace(CONFIG, audio_lookahead_frames=lookahead)
    said, instead = sound(9 * BLOCK), sound(6 * BLOCK + 700, seed=1)
    for num_taken in range(WITHDRAWABLE, 7):
        stream, cut = StreamingAudio(config), (num_taken - back) * BLOCK
        stream.append(said)
        taken = [stream.next_window() for _ in range(num_taken)]
        stream.withdraw(num_taken - back)
        assert (stream.num_samples, stream.num_samples_pending) == (cut, 0)
        stream.append(instead)
        stream.finish()
        rest = []
        while window := stream.next_window():
            rest.append(window)
        whole = windows(np.concatenate([said[:cut], instead]), config=config)
        assert all(taken)
        assert_equal(rest, whole[num_taken - back :])


def test_more_than_is_kept_cannot_be_withdrawn() -> None:
    """Its sound and its sums are gone."""
    stream = StreamingAudio(CONFIG)
    stream.append(sound(6 * BLOCK))
    for _ in range(5):
        stream.next_window()
    for block in (1, 6):
        with pytest.raises(ValueError, match=f"block {block} can't be withdrawn, 5 is next"):
            stream.withdraw(block)


def test_idling_does_not_make_the_next_word_louder() -> None:
    """Ten minutes of zeros in the mean make it eleven times too loud."""
    speech = sound(2 * BLOCK)

    def first_word(idle_blocks: int, **options: bool) -> float:
        stream = StreamingAudio(CONFIG, **options)
        stream.append(np.zeros(idle_blocks * BLOCK, np.float32))
        while stream.next_window():
            pass
        stream.append(speech)
        window = stream.next_window()
        assert window is not None
        return float(np.abs(window.samples).max())

    assert first_word(1250, skips_idle=True) == pytest.approx(first_word(0), rel=1e-3)
    assert first_word(1250) > 10 * first_word(0)
