"""A saved video's manifest: it is there by default, it tells the truth, changes are found."""

import json
import logging
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from live_avatar_client import VideoWriter
from live_avatar_client.provenance import identity, manifest
from tests.client.test_cli import run

c2pa = pytest.importorskip("c2pa", reason="needs the packages of requirements/provenance.lock")
FRAMES = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), np.uint8)


def written(path: Path, sign: bool | None = None) -> Path:
    with VideoWriter(path, seal=manifest.sealer(path, asked=sign)) as writer:
        writer.write(FRAMES)
    return path


def pictures(path: Path) -> int:
    with av.open(str(path)) as video:
        return sum(1 for _ in video.decode(video=0))


@pytest.mark.parametrize("name", ["talk.mp4", "talk.MOV"])
def test_a_signed_video_says_that_a_model_made_it_and_plays(tmp_path: Path, name: str) -> None:
    """A viewer would take it for a recording of a person."""
    path = written(tmp_path / name)
    verdict = manifest.verify(path)
    assert verdict.is_whole, verdict
    assert verdict.words.startswith("made by a model; signed by live-avatar local signer")
    assert "nobody vouches for" in verdict.words
    assert pictures(path) == len(FRAMES)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_the_manifest_names_its_source_type_and_no_person(tmp_path: Path) -> None:
    """Readers look for this word of the IPTC; the file is no place for a user's name."""
    with (
        written(tmp_path / "talk.mp4").open("rb") as file,
        c2pa.Reader("video/mp4", file) as reader,
    ):
        told = json.loads(reader.json())
    text = json.dumps(told)
    assert "digitalsourcetype/trainedAlgorithmicMedia" in text
    assert "c2pa.created" in text


@pytest.mark.parametrize("where", [0.3, 0.6, 0.9])
def test_a_changed_byte_is_found(tmp_path: Path, where: float) -> None:
    """Another mouth could be put into a signed video."""
    path = written(tmp_path / "talk.mp4")
    data = bytearray(path.read_bytes())
    at = int(data.index(b"mdat") + 8 + where * (len(data) - data.index(b"mdat") - 8))
    data[at] ^= 1
    path.write_bytes(data)
    verdict = manifest.verify(path)
    assert not verdict.is_whole
    assert "assertion.bmffHash.mismatch" in verdict.faults
    assert verdict.words.startswith("changed since it was signed")


def test_videos_without_a_manifest_are_told_apart(tmp_path: Path) -> None:
    """Silence is no proof of a camera."""
    assert "holds no manifest" in manifest.verify(written(tmp_path / "a.mp4", sign=False)).words
    (tmp_path / "b.mp4").write_bytes(b"no video" * 99)
    assert "can't be read" in manifest.verify(tmp_path / "b.mp4").words
    assert ".mp4 and .mov do" in manifest.verify(written(tmp_path / "c.mkv", sign=False)).words
    with pytest.raises(ValueError, match="there is none"):
        manifest.verify(tmp_path / "d.mp4")


def test_what_cannot_be_signed_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A video that is not signed must not pass for one that is."""
    written(tmp_path / "a.mkv")
    assert "the video is not signed: a.mkv can't hold a manifest" in caplog.text
    with pytest.raises(ValueError, match=r"a.mkv can't hold a manifest"):
        manifest.sealer(tmp_path / "a.mkv", asked=True)
    caplog.clear()
    written(tmp_path / "a.mkv", sign=False)
    assert caplog.text == ""


def test_a_video_is_kept_when_the_signing_fails(
    tmp_path: Path, config_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An hour of work would be lost for a certificate that has run out."""
    broken = identity._made()._replace(key=identity._made().key)  # of another certificate
    place = config_folder / "live-avatar"
    place.mkdir(parents=True, exist_ok=True)
    before = identity.own()
    (place / identity.FILE).write_bytes(b"".join(broken))
    try:
        with caplog.at_level(logging.WARNING):
            path = written(tmp_path / "talk.mp4")
    finally:
        (place / identity.FILE).write_bytes(b"".join(before))
    assert pictures(path) == len(FRAMES)
    assert not manifest.verify(path).is_whole
    assert [file.name for file in tmp_path.iterdir()] == ["talk.mp4"]


def test_the_certificate_is_made_once_and_is_the_users_alone(tmp_path: Path) -> None:
    """With two at once a key of one and a chain of the other would sign nothing."""
    with ThreadPoolExecutor(4) as pool:
        made = set(pool.map(lambda _: identity.own(tmp_path / "new"), range(4)))
    assert len(made) == 1
    assert identity.own(tmp_path / "new") in made
    (file,) = (tmp_path / "new").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / identity.FILE).write_text("hello")
    with pytest.raises(ValueError, match="has no certificate and key in PEM; --no-sign"):
        identity.own(tmp_path / "text")


def test_the_command_verifies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its exit code is what a script looks at."""
    path = written(tmp_path / "talk.mp4")
    assert run(monkeypatch, "verify", path) == 0
    assert "made by a model" in capsys.readouterr().out
    path.write_bytes(path.read_bytes()[:-9])
    assert run(monkeypatch, "verify", path) == 1
    assert "error: " in capsys.readouterr().err
