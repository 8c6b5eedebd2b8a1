"""The VAE's trainer as a command: what it writes, and that it goes on where it stopped."""

import json
import sys
from collections.abc import Callable, Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from networks.checkpoint import load_checkpoint
from networks.compact_vae import CompactVAE
from networks.configs import CompactVAEConfig
from train.learning.loop import COLOURS, MARGIN, PANEL, write_curves
from train.vae import __main__ as command
from train.vae import clips as vae_clips
from train.vae import training as vae_run
from train.vae.scores import GATES
from train.vae.training import Training
from train.world import clips as data
from train.world.render import REGIONS

SIDE, STEPS, STOP = 16, 4, 2
Run = Callable[[str, str], Path]
LEARN = Training.learn
TIME = np.arange(16000) / 16000
VOICE = 0.1 * sum(np.sin(2 * np.pi * 120 * k * TIME) / k for k in range(1, 20))
VOICE *= np.sin(2 * np.pi * 2 * TIME) > 0  # two syllables a second


def drawn(_world: str, index: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """In place of a clip of the drawn world: a picture of its own that slides and fades."""
    rng = np.random.default_rng(index)
    picture = rng.integers(0, 200, (size, size, 3))
    moved = [np.roll(picture, t // 2, 1) + t for t in range(vae_clips.FRAMES)]
    regions = rng.integers(0, len(REGIONS), (vae_clips.FRAMES, size, size))
    return np.stack(moved).astype(np.uint8), regions.astype(np.uint8)


def spoken_clip(index: int, _frames: int, size: int, split: str) -> data.Clip:
    return data.clip(index, 25, size, split, audio=VOICE)


def interrupted(training: Training, store: object, progress: float) -> torch.Tensor:
    """In place of `Training.learn`: somebody presses Ctrl-C before step `STOP`."""
    if training.step == STOP:
        raise KeyboardInterrupt
    return LEARN(training, store, progress)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The command on small pictures that are drawn here; its store forgets one at every step."""
    root = tmp_path_factory.mktemp("runs")
    pool = SimpleNamespace(Pool=lambda workers, _start: ThreadPool(workers))

    def run(out: str, words: str) -> Path:
        words += f" --out {root / out} --size {SIDE} --threads 1"
        patch.setattr(sys, "argv", ["vae", *words.split()])
        command.main()
        return root / out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vae_clips, "multiprocessing", SimpleNamespace(get_context=lambda _: pool))
        patch.setattr(vae_clips, "_draw", drawn)
        patch.setattr(vae_clips, "FRAMES", 29)
        patch.setattr(vae_clips, "FIRST_CLIPS", 4)
        patch.setattr(vae_clips, "MOST_CLIPS", 5)
        patch.setattr(vae_clips, "STEPS_PER_CLIP", 1)
        patch.setattr(vae_run, "DEV_CLIPS", 2)
        patch.setattr(vae_run, "VISIBLE_CLIPS", 1)
        patch.setattr(vae_run, "WORLDS", {"faces": spoken_clip})
        yield run


@pytest.fixture(scope="module")
def unbroken(run: Run) -> Path:
    return run("unbroken", f"--steps {STEPS} --every 60")


@pytest.fixture(scope="module")
def resumed(run: Run) -> Path:
    """Evaluated before every step, interrupted, gone on with; evaluated again at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "learn", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("resumed", f"--steps {STEPS} --every 0")
    return run("resumed", f"--steps {STEPS} --every 60 --resume --seed 5")


def differing(one: Path, other: Path) -> set[str]:
    """Networks in the state of two runs that are not equal to the last bit."""
    a, b = (torch.load(out / "state.pt", weights_only=False) for out in (one, other))
    return {
        part
        for part in ("network", "average")
        if not all(value.equal(b[part][name]) for name, value in a[part].items())
    }


def test_a_resumed_run_ends_where_an_unbroken_one_does(unbroken: Path, resumed: Path) -> None:
    """What is left out of state.pt, or of the store's clips, starts anew."""
    assert torch.load(resumed / "state.pt", weights_only=False)["step"] == STEPS
    assert differing(unbroken, resumed) == set()


def test_equal_seeds_give_equal_weights_and_others_do_not(run: Run, unbroken: Path) -> None:
    """No run could be repeated, or seeds would not tell how much is chance."""
    words = f"--steps {STEPS} --every 60"
    assert differing(unbroken, run("again", words)) == set()
    assert differing(unbroken, run("other", words + " --seed 1")) == {"network", "average"}


def test_the_log_goes_on_where_it_was(resumed: Path) -> None:
    """A resumed run's figures would replace those before it, or its clock start again."""
    rows = [json.loads(line) for line in (resumed / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [*range(STOP + 1), STEPS]
    for clock in ("minutes", "cpu_seconds"):
        assert np.diff([row[clock] for row in rows]).min() > 0, clock
    shown = {name for names in vae_run.VaeRun.panels.values() for name in names}
    assert shown <= rows[0].keys()
    assert all(row["loss"] > 0 for row in rows[1:])
    assert rows[-1]["psnr"] != rows[0]["psnr"]


def test_the_command_writes_the_average_with_its_latents_measured(unbroken: Path) -> None:
    """An hour of training would end in the last step's weights, or in latents of any size."""
    written = load_checkpoint(CompactVAE(CompactVAEConfig()), unbroken / "vae.safetensors")
    state = torch.load(unbroken / "state.pt", weights_only=False)
    for name, value in written.state_dict().items():
        measured = name.startswith("latent_")
        assert value.equal(state["average"][name]) != measured, name
        assert value.isfinite().all(), name
    assert not state["average"]["encoder.stem.weight"].equal(
        state["network"]["encoder.stem.weight"]
    )
    for picture in ("curve.png", "samples.png"):
        with Image.open(unbroken / picture) as image:
            assert np.asarray(image).std() > 1, picture


def test_a_decoder_that_goes_on_alone_keeps_the_latents(run: Run, unbroken: Path) -> None:
    """A teacher that has learned these latents would be decoded wrongly."""
    before = unbroken / "vae.safetensors"
    after = run("decoder", f"--steps 2 --every 60 --encoder-of {before}") / "vae.safetensors"
    one, other = (load_checkpoint(CompactVAE(CompactVAEConfig()), path) for path in (before, after))
    changed = {n for n, value in one.state_dict().items() if not value.equal(other.state_dict()[n])}
    assert {name.split(".")[0] for name in changed} == {"decoder"}


def test_the_last_line_of_an_evaluation_is_the_gate(
    run: Run, unbroken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What reads it would find no verdict, or that of the clips that trained it."""
    capsys.readouterr()
    run("unbroken", "--evaluate --clips 2")
    *lines, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)
    assert found["passes"].keys() == GATES.keys()
    vae = load_checkpoint(CompactVAE(CompactVAEConfig()), unbroken / "vae.safetensors")
    clips = [spoken_clip(i, 0, SIDE, "test") for i in range(2)]
    assert found["psnr"] == pytest.approx(vae_run.evaluate(vae, clips)["psnr"])
    for line, (name, passed) in zip(lines, found["passes"].items(), strict=False):
        assert line.split()[0] == name
        assert line.split()[-1] == ("passes" if passed else "FAILS")


def test_a_state_that_is_not_there_is_not_resumed(run: Run) -> None:
    """A mistyped folder would start a new run."""
    with pytest.raises(SystemExit, match=r"no state\.pt"):
        run("nowhere", "--resume")


def test_a_curve_rises_with_its_figure(tmp_path: Path) -> None:
    """The picture would show other figures than the log."""
    rows = [{"cpu_seconds": 10.0 * i, "rising": i, "falling": -2.0 * i} for i in range(5)]
    rows[2]["rising"] = float("nan")
    del rows[3]["falling"]
    panels = {"one": ("rising",), "two": ("falling",), "none": ("nothing",)}
    write_curves(tmp_path / "curve.png", rows, panels)
    with Image.open(tmp_path / "curve.png") as image:
        pixels = np.asarray(image)
    assert pixels.shape == (PANEL[1], 3 * PANEL[0], 3)
    colour = [int(COLOURS[0][i : i + 2], 16) for i in (1, 3, 5)]
    line = (pixels == colour).all(-1)[MARGIN:]  # below the names
    for number, sign in ((0, -1), (1, 1), (2, None)):
        y, x = np.nonzero(line[:, number * PANEL[0] : (number + 1) * PANEL[0]])
        if sign is None:
            assert not len(x)
            continue
        assert (x.min(), x.max()) == (pytest.approx(MARGIN, abs=2), pytest.approx(350, abs=2))
        assert np.corrcoef(x, y)[0, 1] * sign > 0.99
