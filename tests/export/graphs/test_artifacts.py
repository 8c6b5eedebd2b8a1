"""The committed artifacts are what the sources export."""

from pathlib import Path

import pytest

from export.graphs.exporter import export_preset
from networks.presets import PRESETS
from networks.rolling_presets import ROLLING_PRESETS
from tests.support.plans import DEMO, ROLLING_DEMO


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fresh") / "demo"
    export_preset(PRESETS["demo"], DEMO, folder)
    return folder


def test_a_fresh_export_gives_the_committed_graphs(fresh: Path) -> None:
    """The demo would run another network than the one in `networks/`."""
    committed = {path.name: path.read_bytes() for path in sorted(DEMO.iterdir())}
    exported = {path.name: path.read_bytes() for path in sorted(fresh.iterdir())}
    assert sorted(exported) == sorted(committed)
    assert [name for name in committed if exported[name] != committed[name]] == []


def test_a_fresh_export_gives_the_committed_graphs_of_text_to_video(tmp_path: Path) -> None:
    """The same for the other system; the last digit of its table is the exporting machine's."""
    export_preset(ROLLING_PRESETS["rolling-demo"], ROLLING_DEMO, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {p.name for p in ROLLING_DEMO.iterdir()}
    graphs = sorted(ROLLING_DEMO.glob("*.onnx"))
    assert [g.name for g in graphs if (tmp_path / g.name).read_bytes() != g.read_bytes()] == []


def test_graphs_hold_no_paths_of_the_machine_that_made_them(fresh: Path) -> None:
    """Stack traces in the metadata would name its folders."""
    for path in fresh.glob("*.onnx"):
        data = path.read_bytes()
        assert str(Path.cwd()).encode() not in data, path.name
        assert b"site-packages" not in data, path.name


def test_the_shipped_avatar_and_its_teacher_stay_small() -> None:
    """Every clone carries them, and whatever replaces them."""
    folders = (DEMO, DEMO.with_name("demo-teacher"))
    sizes = [path.stat().st_size for folder in folders for path in folder.iterdir()]
    assert len(sizes) > 10
    assert sum(sizes) <= 25e6
