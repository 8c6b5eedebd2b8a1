"""Another schedule behind the real server: as many stages as steps, from configuration alone."""

from pathlib import Path

import numpy as np
import pytest

from deploy.server.local import LocalServer
from export.repository.assemble import assemble
from export.repository.pbtxt import with_parameter
from live_avatar_client import Session
from pipeline.config.avatar import PipelineConfig
from tests.support.artifacts import demo_with

pytestmark = pytest.mark.triton
CONFIG = PipelineConfig.load(Path(__file__).parents[2] / "artifacts" / "demo" / "pipeline.json")


def test_three_steps_are_served_by_two_stages_or_three(tmp_path: Path) -> None:
    """The release's three-step model, on a device for each step or folded, its sink computed by
    one stage or by each."""
    artifacts = demo_with(tmp_path / "three", num_steps=3)
    sound = np.sin(np.arange(3 * CONFIG.samples_per_block) / 20).astype(np.float32) * 0.3
    image = np.full((CONFIG.height, CONFIG.width, 3), 90, np.uint8)
    latents = []
    for steps, num_stages, sends_sink in (("", 3, "yes"), ("0,1 2", 2, "no")):
        repository = assemble(artifacts, tmp_path / f"repository_{num_stages}", steps=steps)
        config = repository / "live_avatar" / "configs" / "cpu.pbtxt"
        config.write_text(with_parameter(config.read_text(), "sends_sink", sends_sink))
        with LocalServer(repository, log_dir=tmp_path / f"log_{num_stages}") as server:
            url = server.grpc_url
            with Session(url=url, image=image, seed=3, want_latent=True, idle=False) as session:
                blocks = list(session.stream([sound]))
        assert [block.block for block in blocks] == [0, 1, 2]
        assert {len(block.timings_ms) for block in blocks} == {4 + num_stages}
        latents.append(np.concatenate([block.latent for block in blocks]))
    np.testing.assert_array_equal(*latents)
