"""A rolling-forcing fixture, once more through the running server.

Its noise and prompt rows are passed in; windows, caches, clean passes and the end of the stream
are the repository's own work. The fixture has no VAE: a seeded one stands in its place.
"""

from pathlib import Path

import numpy as np
import pytest

from deploy.server.local import LocalServer
from export.repository.assemble import assemble
from live_avatar_client import Block, VideoStream
from tests.golden.fixtures import max_abs
from tests.golden.rolling.fixtures import (
    TOLERANCE,
    Arrays,
    arrays,
    facts,
    main_stream,
    needs_rolling,
    preset,
    weights,
)
from tests.golden.rolling.plays import by_block, stored_noise

pytestmark = [pytest.mark.triton, needs_rolling]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fixture's network as the export takes it, with its own prefix on every key."""
    from export.graphs.exporter import export_preset
    from export.presets import init_weights
    from networks.configs import CompactVAEConfig, TextEncoderConfig

    folder, stream = tmp_path_factory.mktemp("rolling_golden"), main_stream()
    config = facts(stream)["config"]
    wan = config["text_dim"]
    served = preset(
        stream,
        vae=CompactVAEConfig(dim=8, fine_dim=8, z_dim=config["in_dim"]),
        text=TextEncoderConfig(
            vocab=259, dim=wan, dim_attn=8, dim_ffn=8, num_heads=1, num_layers=1
        ),
    )
    init_weights(served, folder / "weights", seed=0)
    (folder / "weights" / "wan.safetensors").write_bytes(weights(stream).read_bytes())
    export_preset(served, folder / "weights", folder / "artifacts")
    return folder / "artifacts"


def noise_of(data: Arrays, num_blocks: int, frames: int) -> np.ndarray:
    """[blocks, levels, C, F, h, w]"""
    draw = stored_noise(data, 0, frames)
    levels = data["renoise"].shape[1] + 1
    return np.array([[draw(b, level)[0] for level in range(levels)] for b in range(num_blocks)])


def test_every_latent_block_equals_the_release(artifacts: Path, tmp_path: Path) -> None:
    """A wrong order, cache, noise or end of the stream anywhere between client and window."""
    name = main_stream()
    data, frames = arrays(name, "inputs"), facts(name)["config"]["frames_per_block"]
    wanted = by_block(arrays(name, "final")["latents"], 0, frames)
    noise = noise_of(data, len(wanted), frames)
    assemble(artifacts, tmp_path / "repository")
    text = data["prompt_embeds"][0]
    with (
        LocalServer(tmp_path / "repository", log_dir=tmp_path) as server,
        VideoStream(text=text, url=server.grpc_url, want_latent=True) as stream,
    ):
        blocks: list[Block] = list(stream.blocks(2, noise=noise))
        blocks += stream.finish(len(wanted) - 2)
    assert [block.block for block in blocks] == list(range(len(wanted)))
    assert len(blocks[0].frames) == 4 * frames - 3
    got = [block.latent for block in blocks if block.latent is not None]
    errors = [max_abs(g, w) for g, w in zip(got, wanted, strict=True)]
    assert max(errors) <= TOLERANCE, errors
