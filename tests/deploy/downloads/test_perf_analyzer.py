"""Installing perf_analyzer: idempotent, private, and clear where it can't be done."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.downloads import newer_libraries, perf_analyzer
from tests.support.programs import needs_perf_analyzer, needs_program


def install_stub(home: Path) -> None:
    home.mkdir()
    (home / ".stamp").write_text(perf_analyzer._stamp())


def test_second_install_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make load-test` installs each time: it must cost nothing, and work without a network."""
    home = tmp_path / "perf_analyzer"
    install_stub(home)
    monkeypatch.setattr(
        perf_analyzer.wheel, "download", lambda *_, **__: pytest.fail("pip was called")
    )
    assert perf_analyzer.install(home) == [str(home / "perf_analyzer")]


def test_stamp_of_another_wheel_or_system_is_not_taken(tmp_path: Path) -> None:
    """After a change of the lock, or on an older C library, the old folder does not work."""
    home = tmp_path / "perf_analyzer"
    install_stub(home)
    assert perf_analyzer.is_installed(home)
    (home / ".stamp").write_text(perf_analyzer._stamp().replace("libraries", "nothing"))
    assert not perf_analyzer.is_installed(home)


def test_command_goes_through_the_newer_loader_where_it_lies(tmp_path: Path) -> None:
    """The system's own loader would refuse the binary: GLIBC_2.38 not found."""
    (tmp_path / "lib").mkdir()
    loader, *rest = perf_analyzer.command(tmp_path)
    assert loader == str(tmp_path / "lib" / newer_libraries.LOADER)
    assert rest == ["--library-path", str(tmp_path / "lib"), str(tmp_path / "perf_analyzer")]


def test_failed_install_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a folder would look installed to the next run."""

    def fail(wheel: Path, folder: Path) -> None:
        folder.mkdir()
        raise RuntimeError("no libraries")

    monkeypatch.setattr(perf_analyzer.wheel, "download", lambda *_, **__: tmp_path / "wheel")
    monkeypatch.setattr(perf_analyzer, "_lay_out", fail)
    with pytest.raises(RuntimeError, match="no libraries"):
        perf_analyzer.install(tmp_path / "build" / "perf_analyzer")
    assert [path.name for path in (tmp_path / "build").iterdir()] == ["cache"]


def test_other_systems_are_told_where_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip would only say that it found no matching distribution."""
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    with pytest.raises(RuntimeError, match=r"this is Darwin on .*Linux on x86-64"):
        perf_analyzer.install(tmp_path / "perf_analyzer")


@pytest.mark.parametrize("missing", ["release", "apt"])
def test_system_without_apt_is_told_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """Fedora with an old C library has no way to the newer one: it must hear which systems do."""
    found = {"ID": "fedora" if missing == "release" else "debian", "PRETTY_NAME": "Some Linux"}
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: found)
    if missing == "apt":
        monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(RuntimeError, match=r"Some Linux.*\n.*Debian 13, Ubuntu 24.04"):
        newer_libraries.fetch(tmp_path / "lib")


@needs_program("apt-config")
def test_apt_gets_folders_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A private run that wrote to the system's lists or cache would change what apt installs."""
    monkeypatch.setattr(newer_libraries, "_run", lambda *_, **__: "")
    release = newer_libraries.RELEASES["debian"]
    assert newer_libraries._download(tmp_path, release, "http://mirror.invalid/debian") == []
    config = ["apt-config", f"--config-file={tmp_path / 'apt.conf'}", "dump"]
    said = subprocess.run(config, capture_output=True, text=True, check=True).stdout
    values = dict(line.rstrip(";").split(" ", 1) for line in said.splitlines())
    for name in ("Dir::State", "Dir::State::lists", "Dir::Cache", "Dir::Cache::archives"):
        assert values[name].startswith(f'"{tmp_path}/'), name
    assert not [name for name in values if "Post-Invoke" in name and name.startswith("APT::Update")]
    source = (tmp_path / "sources.list").read_text()
    assert source == f"deb [arch=amd64 signed-by={release.keyring}] " + (
        "http://mirror.invalid/debian trixie main\n"
    )


@pytest.mark.slow
@needs_perf_analyzer
def test_installed_program_starts(tmp_path: Path) -> None:
    """A missing library shows only when the program starts."""
    command = perf_analyzer.install(tmp_path / "perf_analyzer")
    said = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert "Perf Analyzer" in said.stdout + said.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "perf_analyzer"]
