"""Which parts of training may import which."""

import importlib
from pathlib import Path

import pytest

from tests.test_arrows import imports

TRAIN = Path(__file__).parents[2] / "train"
BASE = {"preset", "world", "scenes", "learning"}
ARROWS = {  # part: the other parts that it may import
    "preset": set(),
    "learning": set(),
    "world": {"preset"},
    "scenes": {"preset", "world"},
    "network": BASE,
    "vae": BASE,
    "encoders": BASE,
    "latents": BASE | {"vae", "encoders"},
    "teacher": BASE | {"vae", "latents", "network"},
    "distill": BASE | {"vae", "latents", "network", "teacher"},
    "evaluate": BASE | {"vae", "encoders", "latents", "network"},
    "rolling": BASE | {"vae", "network", "teacher", "distill"},
    "rolling/evaluate": BASE | {"vae", "network", "rolling", "evaluate"},
    "everything": {"learning"},
}


def test_every_part_has_its_arrows() -> None:
    """A new part could import anything."""
    parts = {path.stem for path in TRAIN.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert parts - {"__init__", "__pycache__"} == {part for part in ARROWS if "/" not in part}


@pytest.mark.parametrize("part", ARROWS)
def test_parts_import_what_lies_below_them(part: str) -> None:
    """World and preview, or teacher and evaluation, would need each other to be understood."""
    files = (
        [TRAIN / f"{part}.py"] if part in ("preset", "everything") else TRAIN.glob(f"{part}/*.py")
    )
    found = {
        f"{file.relative_to(TRAIN)} imports {name}"
        for file in files
        for name in imports(file)
        if name.startswith("train.") and name.split(".")[1] not in ARROWS[part] | {part}
    }
    assert found == set()


def test_what_learns_does_not_know_its_judge() -> None:
    """A model could be chosen by what it is judged by in the end."""
    files = {
        file.stem
        for file in TRAIN.glob("rolling/*.py")
        if any(name.startswith("train.rolling.evaluate") for name in imports(file))
    }
    assert files == {"__main__"}


def test_modules_of_the_world_have_no_circle() -> None:
    """What is imported inside of functions to break a circle is a circle all the same."""
    below = {
        file.stem: {n.split(".")[2] for n in imports(file) if n.startswith("train.world.")}
        for file in (TRAIN / "world").glob("*.py")
    }
    while ready := {name for name, needs in below.items() if not needs & set(below)}:
        below = {name: needs for name, needs in below.items() if name not in ready}
    assert not below


@pytest.mark.parametrize("part", ["vae", "teacher"])
def test_learners_are_found_by_other_processes(part: str) -> None:
    """Spawned processes do not see a package's `__main__`: several learners would never start."""
    assert (
        importlib.import_module(f"train.{part}.training").learner.__module__
        == f"train.{part}.training"
    )
    assert "def learner" not in (TRAIN / part / "__main__.py").read_text()
