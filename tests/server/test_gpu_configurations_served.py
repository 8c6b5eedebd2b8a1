"""The GPU configurations before the real server, which has neither a GPU nor TensorRT's backend.

What it says shows how far it came: it reads a configuration, checks it, looks for the backend and
the GPUs, and for a Python model starts our code.
"""

import re
from pathlib import Path

import pytest

from deploy.server.local import LocalServer
from export.repository.assemble import assemble
from export.repository.deployment import plan
from tests.support.plans import DEMO, ROLLING_DEMO, write_plans

pytestmark = pytest.mark.triton
NO_BACKEND = "unable to find backend library for backend 'tensorrt'"
ON_GPU = re.compile(r"kind: KIND_GPU, count: 1, gpus: \[ (\d) \]")


def repository(artifacts: Path, folder: Path, num_gpus: int) -> Path:
    """The tenant's GPU deployment of plans that are no plans."""
    write_plans(folder, artifacts)
    deployment = plan(artifacts, folder, num_gpus=num_gpus, sessions=1)
    return assemble(artifacts, folder / "repository", deployment=deployment)


def refusals(models: Path, log_dir: Path) -> dict[str, str]:
    """Model -> the server's words; a model that loads is not among them."""
    server = LocalServer(models, log_dir=log_dir, config="gpu")
    with pytest.raises(RuntimeError, match="ended while starting"):
        server.start()
    found = re.findall(r"^\| (\w+) +\| 1 +\| UNAVAILABLE: (.*?) *\|$", server.log.read_text(), re.M)
    assert found
    return dict(found)


@pytest.mark.parametrize(("tenant", "num_gpus"), [(DEMO, 5), (DEMO, 2), (ROLLING_DEMO, 1)])
def test_only_the_hardware_and_its_backend_are_missing(
    tenant: Path, num_gpus: int, tmp_path: Path
) -> None:
    """A mistake in a configuration would show up on the GPU machine, in front of its owner."""
    models = repository(tenant, tmp_path, num_gpus)
    found = refusals(models, tmp_path)
    for folder in (path.parent for path in models.glob("*/config.pbtxt")):
        text = (folder / "config.pbtxt").read_text()
        if 'backend: "tensorrt"' in text:
            assert NO_BACKEND in found.pop(folder.name)
        elif gpu := ON_GPU.search(text):
            assert f"invalid or unsupported gpu id {gpu[1]}." in found.pop(folder.name)
    assert found == {}  # the public model, which runs on the CPU, is ready


def without_gpus(models: Path) -> list[str]:
    """Have the Python models' configurations ask for no GPU; their names."""
    changed = []
    for path in models.glob("*/config.pbtxt"):
        text, count = ON_GPU.subn("kind: KIND_CPU, count: 1", path.read_text())
        if count and 'backend: "python"' in text:
            path.write_text(text)
            changed.append(path.parent.name)
    return changed


@pytest.mark.parametrize("tenant", [DEMO, ROLLING_DEMO])
def test_the_python_models_start_and_ask_for_cuda(tenant: Path, tmp_path: Path) -> None:
    """Past the GPU's number: inputs, outputs and parameters are accepted, and our code runs."""
    models = repository(tenant, tmp_path, 1)
    python, found = without_gpus(models), refusals(models, tmp_path)
    assert len(python) == 2
    for name in python:
        assert "engine 'tensorrt' needs the module cuda.bindings.runtime" in found[name]


def test_a_wrong_configuration_is_told_apart(tmp_path: Path) -> None:
    """The server's words for a fault of ours are others than those above."""
    models = repository(ROLLING_DEMO, tmp_path, 1)
    without_gpus(models)
    path = models / "rolling_vae_decoder" / "config.pbtxt"
    path.write_text(path.read_text().replace("dims: [ -1, -1, -1, 3 ]", "dims: [ -1, -2, -1, 3 ]"))
    assert "rolling_vae_decoder" not in refusals(models, tmp_path)
    (words,) = re.findall(
        r"Poll failed for model directory 'rolling_vae_decoder': (.*)",
        (tmp_path / "server.log").read_text(),
    )
    assert "dimension must be integer >= 1, or -1" in words
