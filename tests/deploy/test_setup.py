"""Locks, the interpreter check, the environment."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import check_python, setup_venv
from tests.support.programs import needs_program

REPO = Path(__file__).resolve().parents[2]
LOCKS = sorted((REPO / "requirements").glob("*.lock"))


def requirements(lock: Path) -> dict[str, str]:
    """Package name to the rest of its entry: version and hashes."""
    text = re.sub(r"^#.*\n", "", lock.read_text(), flags=re.MULTILINE)
    entries = re.split(r"\n(?=\S)", text.strip())
    return {entry.split("==")[0].split("[")[0]: entry.split("==", 1)[1] for entry in entries}


def tracked_files() -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        names = subprocess.run(command, cwd=REPO, capture_output=True, check=True).stdout
    except subprocess.CalledProcessError:
        pytest.skip("not a git checkout: no list of tracked files")
    return [path for name in names.decode().split("\0") if name and (path := REPO / name).is_file()]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_requirement_is_pinned_and_hashed(lock: Path) -> None:
    """An unhashed line would let pip install what nobody has seen."""
    for name, entry in requirements(lock).items():
        assert re.match(r"[\w.+!]+ \\\n", entry), f"{name} has no exact version with hashes"
        hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}", entry)
        assert len(hashes) == entry.count("--hash=") >= 1, name


def test_dev_lock_holds_run_lock() -> None:
    """`make test` installs dev.lock alone: it must test the versions that users run."""
    run = requirements(REPO / "requirements" / "run.lock")
    dev = requirements(REPO / "requirements" / "dev.lock")
    assert {name: dev.get(name) for name in run} == run


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        ("gateway", "run"),
        ("gateway", "dev"),
        ("browser", "dev"),
        ("pipecat", "run"),
        ("livekit", "run"),
        ("livekit", "pipecat"),
        ("agents", "dev"),
    ],
)
def test_what_is_added_changes_no_version_below(kind: str, base: str) -> None:
    """Packages of an extra would else pull numpy or PyAV away under the server and the client."""
    added = requirements(REPO / "requirements" / f"{kind}.lock")
    below = requirements(REPO / "requirements" / f"{base}.lock")
    assert {name: entry for name, entry in added.items() if below.get(name, entry) != entry} == {}


def test_run_lock_has_no_torch_and_an_old_numpy() -> None:
    """The server must start without torch; with numpy 2 its models answer empty tensors."""
    run = requirements(REPO / "requirements" / "run.lock")
    assert "torch" not in run
    assert run["numpy"].startswith("1.")


KINDS = ["run", "dev", "gateway", "browser", "pipecat", "livekit", "agents"]


@pytest.mark.parametrize("kind", KINDS)
def test_lock_holds_what_its_source_asks_for(kind: str) -> None:
    """A package added to the .in file and not compiled would be missing after `make setup`."""
    lines = (REPO / "requirements" / f"{kind}.in").read_text().splitlines()
    wanted = {re.split(r"[\[=<> #]", line)[0] for line in lines if re.match(r"\w", line)}
    assert wanted <= set(requirements(REPO / "requirements" / f"{kind}.lock"))


@needs_program("git")
def test_tracked_files_name_no_machine_and_no_registry() -> None:
    """A path or package index of one workplace makes the clone fail, or leak, elsewhere."""
    # written apart, so that this file does not find itself
    words = ["/work" + "/", "/root" + "/", "pypi." + "org", "python" + "hosted", "file:" + "///"]
    found = [
        f"{path.relative_to(REPO)}: {word}"
        for path in tracked_files()
        if path.suffix not in {".onnx", ".safetensors", ".png", ".flac", ".mp4", ".gif", ".jpg"}
        for word in words
        if word in path.read_text(errors="replace")
    ]
    assert found == []


def test_interpreter_check_is_written_for_old_pythons() -> None:
    """An f-string or annotation would give Python 2 a SyntaxError in place of a sentence."""
    tree = ast.parse(Path(check_python.__file__).read_text())
    new = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr | ast.AnnAssign)]
    annotated = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and (node.returns or any(a.annotation for a in node.args.args))
    ]
    assert new + annotated == []


def test_interpreter_check_accepts_the_one_that_runs_the_tests() -> None:
    """A false alarm would keep everybody out."""
    assert check_python.problems() == []
    assert check_python.facts()["numpy"].startswith("1.")


def test_interpreter_check_names_the_fix_for_a_wrong_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With an unsupported version pip's own words are pages about missing wheels."""
    monkeypatch.setattr(check_python, "SUPPORTED", ((3, 98), (3, 99)))
    (sentence,) = check_python.problems()
    assert "make setup PYTHON=" in sentence


def test_interpreter_check_names_the_fix_for_a_static_build(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without libpython every model fails with a loader error that says nothing of Python."""
    monkeypatch.setattr(check_python, "libpython_dir", lambda: None)
    (sentence,) = check_python.problems()
    assert "libpython" in sentence
    assert "apt install" in sentence


def test_second_setup_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make demo` runs setup each time: it must cost nothing when the locks are unchanged."""
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    (tmp_path / ".setup-dev").write_text(setup_venv.stamp_text("dev"))
    monkeypatch.setattr(setup_venv, "_pip", lambda *_: pytest.fail("pip was called"))
    setup_venv.setup(tmp_path, "dev")
    setup_venv.setup(tmp_path, "run")  # an environment for dev serves these, too
    setup_venv.setup(tmp_path, "gateway")
    with pytest.raises(pytest.fail.Exception, match="pip was called"):
        setup_venv.setup(tmp_path, "agents")  # which has no linters, and dev no agents


def test_stamp_follows_the_locks(tmp_path: Path) -> None:
    """With a stamp of the file names alone, a changed lock would never be installed."""
    lock = tmp_path / "run.lock"
    (tmp_path / setup_venv.SIGNS).write_text("")
    lock.write_text("a==1")
    before = setup_venv.stamp_text("run", locks=tmp_path)
    lock.write_text("a==2")
    assert setup_venv.stamp_text("run", locks=tmp_path) != before


def test_setup_does_not_overwrite_a_folder_of_someone_else(tmp_path: Path) -> None:
    """`make setup VENV=$HOME` would empty the home folder."""
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(RuntimeError, match="not a virtual environment"):
        setup_venv.setup(tmp_path, "run")
    assert (tmp_path / "letter.txt").exists()


def test_setup_does_not_empty_what_a_link_leads_to(tmp_path: Path) -> None:
    """Another checkout's environment was emptied, and then nothing could be made of the link."""
    theirs, ours = tmp_path / "theirs", tmp_path / ".venv"
    theirs.mkdir()
    (theirs / "pyvenv.cfg").write_text("version = 3.9.0")
    ours.symlink_to(theirs)
    with pytest.raises(RuntimeError, match=r"\.venv leads to .*theirs, which is for"):
        setup_venv.setup(ours, "run")
    assert (theirs / "pyvenv.cfg").exists()
