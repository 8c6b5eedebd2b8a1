"""The invisible mark: seen by nobody, found after H.264, and not where it isn't."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench_mark import film, measure, secret, through_h264
from live_avatar_client import VideoWriter
from live_avatar_client.provenance.mark import FOUND, Mark
from tests.client.test_cli import run

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    return film(ROOT / "examples" / "portrait.png", 0)


@pytest.mark.long
def test_a_marked_film_is_known_after_h264_and_others_are_not(plain: np.ndarray) -> None:
    """A mark that a codec removes is none; one that is found everywhere accuses everybody."""
    ours, theirs = Mark(secret(1)), Mark(secret(2))
    seen, _ = through_h264(ours.put(plain), 200_000)
    assert ours.score(seen) > FOUND
    assert abs(theirs.score(seen)) < FOUND
    assert abs(ours.score(through_h264(plain, 200_000)[0])) < FOUND


def test_nobody_sees_the_mark(plain: np.ndarray) -> None:
    """The picture is what it is for."""
    marked = Mark(secret(1)).put(plain)
    assert (marked.dtype, marked.shape) == (np.uint8, plain.shape)
    error = (marked.astype(float) - plain) ** 2
    assert 10 * np.log10(255**2 / error.mean()) > 44
    assert np.abs(marked.astype(int) - plain).max() <= 10


def test_small_and_bright_pictures_are_no_error() -> None:
    """A sum past 255 would begin at 0 again, in black dots."""
    mark = Mark(secret(1))
    white = np.full((2, 96, 96, 3), 255, np.uint8)
    assert mark.put(white).min() > 240
    small = np.zeros((1, 48, 96, 3), np.uint8)
    assert mark.put(small) is small
    with pytest.raises(ValueError, match="has 5 bytes, expected 16 or more"):
        Mark(b"short")


@pytest.mark.long
def test_the_command_looks_for_the_mark(
    plain: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Who finds a film asks whether it was made here."""
    for number in (1, 2):
        (tmp_path / str(number)).write_bytes(secret(number))
    with VideoWriter(tmp_path / "a.mp4") as writer:
        writer.write(Mark(secret(1)).put(plain))
    assert run(monkeypatch, "verify", tmp_path / "a.mp4", "--mark-secret", tmp_path / "1") == 0
    assert "bears the mark" in capsys.readouterr().out
    assert run(monkeypatch, "verify", tmp_path / "a.mp4", "--mark-secret", tmp_path / "2") == 1
    assert "no mark of this secret" in capsys.readouterr().err


@pytest.mark.slow
def test_the_benchmark_finds_all_marks_and_no_others() -> None:
    """What the documents say of it."""
    report = measure(num_secrets=3, chances=300)
    assert report["at_200_kbit"]["found"] == 1.0  # type: ignore[index]
    assert report["without_a_mark"]["found"] == 0.0  # type: ignore[index]
