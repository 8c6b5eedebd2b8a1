"""The one command for released files: on a tiny folder of their layout, and its refusals."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from export.checkpoint.files import open_weights
from export.checks import release as verify_release
from export.checks.compile import write_slice
from export.checks.sides import program_of
from export.checks.verify import compare
from export.engines.profiles import ranges_of
from export.graphs import dit as dit_graphs
from export.graphs import vae as vae_graphs
from export.presets import slice_of
from networks.presets import PRESETS
from pipeline.engines.gpu import Gpu
from pipeline.engines.manifest import Machine
from tests.export.checks.test_verify import change
from tests.support.fake_gpu import FakeCuda, FakeTensorRT, write_plan
from tests.support.tiny_release import ALPHA, RANK, lora_state, tiny_preset, write_release

DEMO = Path(__file__).parents[3] / "artifacts" / "demo"
GRAPHS = {
    *("audio_tokens", "dit_text", "dit_sink", "dit_embed", "dit_step"),
    *("vae_encoder", "vae_decoder_warmup", "vae_decoder", "audio_encoder", "text_encoder"),
    *("pose_encoder", "pose_encoder_start"),
}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_release(tmp_path_factory.mktemp("release"), tiny_preset())
    save_file(lora_state(tiny_preset()), folder.parent / "lora.safetensors")
    return folder


@pytest.fixture
def verify(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """Runs the command on the release with its LoRA, into `tmp_path`."""
    monkeypatch.setitem(PRESETS, "tiny", tiny_preset())
    monkeypatch.setenv("COLUMNS", "160")
    app = typer.Typer()
    app.command()(verify_release.main)
    lora = release.parent / "lora.safetensors"
    fixed = ["--preset", "tiny", "--lora", lora, "--rank", RANK, "--alpha", ALPHA]

    def run(*arguments: object, folder: Path = release) -> tuple[int, str]:
        line = [folder, *fixed, "--out", tmp_path, *arguments]
        result = CliRunner().invoke(app, list(map(str, line)))
        return result.exit_code, result.output

    return run


def test_released_files_become_graphs_that_equal_pytorch(verify, tmp_path: Path) -> None:
    """Somebody with the real files would learn of a drift from the picture alone."""
    status, text = verify()
    assert status == 0, text
    assert {path.stem for path in (tmp_path / "graphs").glob("*.onnx")} == GRAPHS
    assert text.count("equal") == len(GRAPHS)
    assert "TensorRT is not compared: engine 'tensorrt' needs the module" in text


def test_a_slice_holds_the_first_layers_alone_and_its_lora(
    verify, release: Path, tmp_path: Path
) -> None:
    """It is for machines that cannot hold the whole; it must be the same network's beginning."""
    status, text = verify("--layers", 1, "--component", "dit")
    assert status == 0, text
    state = load_file(tmp_path / "weights" / "dit.safetensors")
    assert {key.split(".")[1] for key in state if key.startswith("blocks.")} == {"0"}
    base = {k: t for p in release.glob("*.safetensors") for k, t in load_file(p).items()}
    assert not torch.equal(state["blocks.0.ffn.0.weight"], base["blocks.0.ffn.0.weight"])
    assert torch.equal(state["head.head.bias"], base["head.head.bias"])
    assert "first 1 layers" in text


def test_an_output_that_differs_ends_with_1(verify) -> None:
    """A script would go on to build engines from it."""
    status, text = verify("--component", "audio_encoder", "--limit", 1e-12)
    assert status == 1
    assert "differs" in text


def test_what_does_not_fit_into_memory_is_told_before_anything_is_written(
    verify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 14B the DiT alone takes 130 GB twice over; the machine would swap, then kill."""
    monkeypatch.setattr(verify_release, "available_memory", lambda: 2_000_000)
    status, text = verify()
    assert status == 1
    assert "vae: its weights take 0.0 GB (float32, once for PyTorch and once" in text
    assert "0.0 GB of memory are available" in text
    assert "LAYERS=2" in text
    assert list(tmp_path.iterdir()) == []


def test_files_that_do_not_fit_are_not_prepared(verify, release: Path, tmp_path: Path) -> None:
    """The comparison would be of something else than the release."""
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in release.rglob("*"):
        if path.is_file() and path.name != "config.json":
            (broken / path.relative_to(release)).parent.mkdir(exist_ok=True)
            (broken / path.relative_to(release)).hardlink_to(path)
    status, text = verify(folder=broken)
    assert status == 1
    assert "config.json" in text
    assert {path.name for path in tmp_path.iterdir()} == {"broken"}


def test_the_14b_needs_what_its_parameters_take(tmp_path: Path) -> None:
    """The figures that a user is told, from the shapes of full-size files."""
    preset = PRESETS["14b"]
    write_slice(preset, tmp_path, "dit")
    dit = verify_release.RELEASED[0]
    weights = open_weights(tmp_path, "dit")
    numbers = {
        depth: sum(
            info.num_bytes // info.dtype.itemsize
            for info in verify_release.used_keys(dit, weights, sized).values()
        )
        for depth, sized in ((40, preset), (2, slice_of(preset, 2)))
    }
    assert numbers[40] == 16_295_755_609
    assert numbers[2] < 0.1 * numbers[40]


@pytest.fixture
def plans(tmp_path: Path) -> Path:
    machine = Machine(gpu="Stand-in", compute_capability="9.0", tensorrt="11.0.0")
    for name in ("dit_step", "audio_tokens", "vae_decoder"):
        profiles = ranges_of(name, PRESETS["demo"].pipeline)
        write_plan(DEMO / f"{name}.onnx", tmp_path, machine, profiles=profiles)
    return tmp_path


@pytest.mark.parametrize("name", ["dit_step", "audio_tokens", "vae_decoder"])
def test_plans_are_compared_with_their_caches_on_the_device(plans: Path, name: str) -> None:
    """On a real GPU a cache or a state that is not carried on would look like rounding."""
    cuda = FakeCuda()
    program = program_of(plans, Gpu(0, cuda, FakeTensorRT(cuda)))
    graphs = [*dit_graphs.graphs(PRESETS["demo"], DEMO), *vae_graphs.graphs(PRESETS["demo"], DEMO)]
    (graph,) = (graph for graph in graphs if graph.name == name)
    found = compare(graph, program, PRESETS["demo"])
    assert {each.output for each in found} == set(graph.output_names)
    floats = [each.share for each in found if each.output != "frames"]
    assert max(floats) < 1e-4  # the stand-in computes in float32
    assert all(each.fits for each in found)


def test_a_plan_that_computes_something_else_is_found(plans: Path, tmp_path: Path) -> None:
    """The limit of bfloat16 must not let a wrong plan through."""
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    for path in (DEMO / "dit.safetensors", DEMO / "audio_tokens.onnx"):
        (wrong / path.name).write_bytes(path.read_bytes())
    change(wrong / "audio_tokens.onnx", 1e6)
    machine = Machine(gpu="Stand-in", compute_capability="9.0", tensorrt="11.0.0")
    write_plan(wrong / "audio_tokens.onnx", wrong, machine, {"actors": 1})
    cuda = FakeCuda()
    graph = dit_graphs.graphs(PRESETS["demo"], DEMO)[0]
    found = compare(graph, program_of(wrong, Gpu(0, cuda, FakeTensorRT(cuda))), PRESETS["demo"])
    assert not all(each.fits for each in found)
