"""Files that are not those of their export are found when a model loads."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from export.repository import hash_files
from export.repository.hash_files import write_hashes
from pipeline.identity.file_hashes import HASHES, check_files, read_hashes

pytestmark = pytest.mark.long

ARTIFACTS = Path(__file__).parents[3] / "artifacts"
GRAPH, WEIGHTS, TABLE = "dit_step.onnx", "dit.safetensors", "timesteps.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's files with their hashes."""
    for name in (GRAPH, WEIGHTS, TABLE):
        (tmp_path / name).write_bytes(name.encode() * 3_000_000)
    (tmp_path / "pipeline.json").write_text("{}")
    write_hashes(tmp_path, [GRAPH, WEIGHTS, TABLE, "pipeline.json"])
    return tmp_path


def flip(path: Path) -> None:
    """4 kB in the middle, in place, where every hard link shows it."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        piece = file.read(4096)
        file.seek(-len(piece), os.SEEK_CUR)
        file.write(bytes(255 - byte for byte in piece))


def test_the_export_lists_what_it_wrote_but_no_configuration(folder: Path) -> None:
    """Who runs a server may edit pipeline.json, in all models alike."""
    hashes = json.loads((folder / HASHES).read_text())
    assert sorted(hashes) == [WEIGHTS, GRAPH, TABLE]
    assert hashes[GRAPH] == hashlib.sha256((folder / GRAPH).read_bytes()).hexdigest()
    assert check_files(folder, "dit_stage_0") == hashes


@pytest.mark.parametrize("name", [GRAPH, WEIGHTS, TABLE])
def test_flipped_bytes_are_found_with_both_hashes(folder: Path, name: str) -> None:
    """Weights that rotted on a disk load, and draw another face."""
    wanted = read_hashes(folder)[name]
    flip(folder / name)
    found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=f"dit_stage_2: .*{name} .*{found[:12]}.*{wanted[:12]}"):
        check_files(folder, "dit_stage_2")


def test_a_file_that_is_not_listed_is_refused(folder: Path) -> None:
    """It would be loaded unchecked: one that came from another export."""
    (folder / "dit_text.onnx").write_text("graph")
    with pytest.raises(ValueError, match=r"dit_text\.onnx is not in hashes\.json"):
        check_files(folder, "dit_stage_0")


def test_files_of_other_models_need_not_be_there(folder: Path) -> None:
    """The list is that of the whole export, a model has its own part."""
    (folder / GRAPH).unlink()
    assert sorted(check_files(folder, "audio_tokens")) == [WEIGHTS, TABLE]


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', "null"])
def test_a_damaged_list_is_refused_in_words(folder: Path, text: str) -> None:
    (folder / HASHES).write_text(text)
    with pytest.raises(ValueError, match=r"hashes\.json is no"):
        check_files(folder, "dit_stage_0")
    (folder / HASHES).unlink()
    with pytest.raises(ValueError, match=r"hashes\.json is missing; .* make repository"):
        check_files(folder, "dit_stage_0")


def test_a_part_that_is_exported_anew_leaves_the_others_hashes(folder: Path) -> None:
    """`--component vae` must not vouch for a transformer that rotted meanwhile."""
    before = read_hashes(folder)
    flip(folder / WEIGHTS)
    linked = folder / "linked"
    linked.hardlink_to(folder / HASHES)
    (folder / GRAPH).write_text("new")
    (folder / TABLE).unlink()
    write_hashes(folder, [GRAPH])
    after = read_hashes(folder)
    assert sorted(after) == [WEIGHTS, GRAPH]
    assert after[WEIGHTS] == before[WEIGHTS]
    assert after[GRAPH] != before[GRAPH]
    assert json.loads(linked.read_text()) == before  # a repository's copy stays as it was


def test_a_folder_from_before_gets_its_hashes_by_hand(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every earlier export would have to be made anew."""
    before = read_hashes(folder)
    (folder / HASHES).unlink()
    monkeypatch.setattr("sys.argv", ["hash_files", str(folder)])
    assert hash_files.main() == 0
    assert read_hashes(folder) == before


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"a": 1}', b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_list_is_written_anew(folder: Path, damage: bytes) -> None:
    """The command that repairs a folder would itself end in a traceback."""
    before = read_hashes(folder)
    (folder / HASHES).write_bytes(damage)
    done = hash_by_hand(folder)
    assert (done.returncode, done.stderr) == (0, f"{folder / HASHES}\n")
    assert read_hashes(folder) == before


def test_files_that_a_damaged_list_knew_are_not_vouched_for(folder: Path) -> None:
    """An export of a part would vouch for a transformer that rotted meanwhile."""
    (folder / HASHES).write_text("{")
    write_hashes(folder, [GRAPH])
    assert sorted(read_hashes(folder)) == [GRAPH]


@pytest.mark.parametrize("kind", ["in the list's place", "in a graph's place"])
def test_a_folder_that_cannot_be_hashed_is_one_line(folder: Path, kind: str) -> None:
    """A traceback of twenty lines hides the one that matters, and half a list stays behind."""
    wrong = folder / (HASHES if kind == "in the list's place" else GRAPH)
    wrong.unlink()
    wrong.mkdir()
    done = hash_by_hand(folder)
    assert done.returncode == 1
    assert re.fullmatch(r"error: \S+: Is a directory\n", done.stderr)
    assert not list(folder.glob(".hashes.json*"))


def hash_by_hand(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "export.repository.hash_files", str(folder)]
    return subprocess.run(command, cwd=ARTIFACTS.parent, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["demo", "rolling-demo"])
def test_the_committed_artifacts_are_those_of_their_hashes(name: str) -> None:
    """The server that everybody starts first would refuse to."""
    listed = check_files(ARTIFACTS / name, name)
    assert sorted(listed) == sorted(
        path.name for path in (ARTIFACTS / name).iterdir() if path.suffix != ".json"
    )
