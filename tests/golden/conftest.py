"""The fixtures' networks: loaded, and exported as they are served, once for all tests."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.golden.fixtures import preset, tensors, weights, write_weights

if TYPE_CHECKING:
    from torch import Tensor

    from networks.vae import VAE


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifacts folder of the `golden` preset, RoPE tables rounded as in the release."""
    from export.graphs.exporter import export_preset

    folder = tmp_path_factory.mktemp("golden")
    write_weights(folder / "weights")
    export_preset(preset(), folder / "weights", folder / "artifacts")
    return folder / "artifacts"


@pytest.fixture(scope="session")
def vae() -> "VAE":
    """With the fixtures' weights; nothing changes them."""
    from networks.checkpoint import load_checkpoint
    from networks.vae import VAE

    return load_checkpoint(VAE(preset().vae), weights("vae"))


@pytest.fixture(scope="session")
def io() -> "dict[str, Tensor]":
    """What the release's VAE took and gave."""
    return tensors("vae_io")
