"""The road of docs/deploy.md, from released files to a repository, on a tiny release.

The commands are taken from the guide and given to `make`, in a checkout of links that has no
artifacts of its own. Without a GPU the road ends at `make engines`, whose refusal in words is what
is tested then; `make repository` is run once more for a CPU. `make doctor` has tests of its own.
"""

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")

from safetensors.torch import save_file

from export.checkpoint.lora import RELEASED_RANK
from networks.presets import PRESETS
from tests.support.odd_checkout import without_outer_make
from tests.support.plans import ROOT
from tests.support.programs import needs_program
from tests.support.tiny_release import lora_state, write_release

pytestmark = needs_program("make")
OWN = {"artifacts", "build", "out", ".git"}
"""What the checkout of links does not share."""
HERE = {"engines": "TensorRT is not here", "repository": "no plans of dit_step"}
"""Goals that a machine without a GPU refuses, and the words."""
ENVIRONMENT = ("setup", "setup-dev", "fetch")
"""Goals that are done: whoever runs this test has them."""


def guide() -> list[str]:
    """The commands under "From the released files to a server"."""
    text = (
        (ROOT / "docs" / "deploy.md").read_text().split("From the released files to a server:")[1]
    )
    block = re.search(r"```\n(.*?)```", text, re.S)
    assert block is not None
    return [line.split("  #")[0].strip() for line in block[1].splitlines()]


def goal_of(command: str) -> str:
    return shlex.split(command)[1]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Links to the sources, and beside them a release of the demo's sizes."""
    folder = tmp_path_factory.mktemp("checkout")
    for path in ROOT.iterdir():
        if path.name not in OWN:
            (folder / path.name).symlink_to(path)
    (folder / "Wan2.2-S2V-14B").mkdir()
    write_release(folder / "Wan2.2-S2V-14B", PRESETS["demo"])
    save_file(lora_state(PRESETS["demo"], RELEASED_RANK), folder / "liveavatar.safetensors")
    return folder


@pytest.fixture(scope="module")
def make(checkout: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Runs a command of the guide, at the sizes of the demo."""

    def run(command: str) -> subprocess.CompletedProcess[str]:
        words = [word.replace("PRESET=14b", "PRESET=demo") for word in shlex.split(command)]
        if goal_of(command) == "prepare":
            words.append("PRESET=demo")  # the release's own is the default
        done = [word for goal in ENVIRONMENT for word in ("-o", goal)]
        return subprocess.run(
            [words[0], *done, *words[1:]],
            cwd=checkout,
            env={**without_outer_make(), "COLUMNS": "200"},
            capture_output=True,
            text=True,
        )

    return run


def test_the_guide_goes_all_the_way() -> None:
    """A step that is left out is one that nobody tries."""
    goals = [goal_of(command) for command in guide()]
    assert goals == ["gpu-plan", "prepare", "export", "doctor", "engines", "repository"]


@pytest.mark.slow
def test_the_road_leads_from_released_files_to_the_gpu(
    make: Callable[[str], subprocess.CompletedProcess[str]], checkout: Path
) -> None:
    """Somebody with the real files and a rented machine would find out which command is wrong."""
    for command in guide():
        goal = goal_of(command)
        if goal == "doctor":
            continue
        done = make(command)
        if words := HERE.get(goal):
            assert done.returncode != 0, command
            assert words in done.stderr, done.stderr
        else:
            assert done.returncode == 0, done.stderr
    graphs = checkout / "build" / "artifacts" / "demo"
    assert len(list(graphs.glob("*.onnx"))) == 9
    assert (graphs / "hashes.json").is_file()
    assert not (checkout / "artifacts").exists()
    done = make("make repository PRESET=14b")  # a CPU's, of the same graphs
    assert done.returncode == 0, done.stderr
    stage = checkout / "build" / "model_repository" / "dit_stage_0" / "1"
    shards = sorted(graphs.glob("dit-*.safetensors"))
    assert len(shards) > 1  # as released
    assert all((stage / shard.name).samefile(shard) for shard in shards)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("make prepare WEIGHTS=w", "say CKPT=, the released folder"),
        ("make prepare CKPT=Wan2.2-S2V-14B", "say WEIGHTS=, the folder to be written"),
        ("make export", "say WEIGHTS=, the folder that make prepare writes"),
        ("make export WEIGHTS=w ARTIFACTS='a b'", "an export is one folder: ARTIFACTS=folder"),
        ("make export WEIGHTS=w DTYPE=int4", "no dtype 'int4', there are fp32, fp16, bf16"),
    ],
)
def test_what_is_missing_is_said_in_words(
    make: Callable[[str], subprocess.CompletedProcess[str]], command: str, words: str
) -> None:
    """A traceback, or a folder named ''."""
    done = make(command)
    assert done.returncode != 0
    assert words in done.stderr


def test_an_export_goes_past_the_committed_artifacts(
    make: Callable[[str], subprocess.CompletedProcess[str]],
) -> None:
    """`make export` with the defaults would replace the demo that everybody has."""
    done = make("make -n export WEIGHTS=w --eval 'show:;@echo out=$(EXPORTED)' show")
    assert "out=build/artifacts/demo" in done.stdout
    done = make("make -n export WEIGHTS=w --eval 'show:;@echo out=$(EXPORTED)' show ARTIFACTS=mine")
    assert "out=mine" in done.stdout
