"""The release's five-rank run, once more through the running server.

Noise, audio features, text rows and sink distances of the fixture are passed in; everything else
(reference and motion encoding, sink prefill, re-calibration, four caches, decoding) is the
repository's own work.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deploy.server.local import LocalServer
from export.repository.assemble import assemble
from live_avatar_client import Block, Session
from tests.golden import fixtures

pytestmark = [pytest.mark.triton, fixtures.needs_golden]


@pytest.fixture(scope="module")
def run() -> dict[str, np.ndarray]:
    return fixtures.load("tpp_run")


@pytest.fixture(scope="module")
def blocks(
    run: dict[str, np.ndarray], artifacts: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Block]:
    """Every block of the run, streamed in requests of uneven length."""
    folder = tmp_path_factory.mktemp("golden_server")
    assemble(artifacts, folder / "repository")
    frames_per_block = fixtures.preset().pipeline.video_frames_per_block
    with LocalServer(folder / "repository", log_dir=folder) as server:
        return list(_stream(server.grpc_url, run, frames_per_block))


def _stream(url: str, run: dict[str, np.ndarray], frames_per_block: int) -> Iterator[Block]:
    noise = _noise_blocks(run)
    distances = run["relative_dist"].reshape(-1, run["relative_dist"].shape[-1])
    features = run["audio_bucket"]
    with Session(
        url=url, image=run["image_uint8"], text=run["context"], want_latent=True
    ) as session:
        sent = 0
        sizes = [size for size in (1, 2) if size < len(noise)]
        for size in (*sizes, len(noise) - sum(sizes)):
            session.send(
                noise=noise[sent : sent + size],
                sink_distance=distances[sent : sent + size],
                audio_features=np.ascontiguousarray(
                    features[..., sent * frames_per_block : (sent + size) * frames_per_block]
                ),
            )
            sent += size
        session.finish()
        yield from session


def _noise_blocks(run: dict[str, np.ndarray]) -> np.ndarray:
    """[clip, C, frames, h, w] -> [blocks, C, F, h, w]."""
    clips, blocks_per_clip = run["final_latents"].shape[:2]
    parts = [np.split(run["noise"][clip], blocks_per_clip, axis=1) for clip in range(clips)]
    return np.ascontiguousarray(np.concatenate([np.stack(p) for p in parts]))


def test_every_latent_block_equals_the_release(
    blocks: list[Block], run: dict[str, np.ndarray]
) -> None:
    """A wrong cache, order, distance or re-calibration anywhere between client and stages."""
    wanted = run["final_latents"].reshape(-1, *run["final_latents"].shape[2:])
    assert [b.block for b in blocks] == list(range(len(wanted)))
    errors = [np.abs(b.latent[0] - w).max() for b, w in zip(blocks, wanted, strict=True)]
    assert max(errors) <= 1e-4, errors  # float32 sums in another order; seen about 1e-5


def test_every_frame_is_within_one_grey_level_of_the_release(
    blocks: list[Block], run: dict[str, np.ndarray]
) -> None:
    """The decoder's state, its warm-up or the frame order would be wrong."""
    video = np.concatenate([b.frames for b in blocks])
    dropped = len(video) - run["video_strided"].shape[1]  # the release leaves out the first 3
    wanted = (run["video_strided"].clip(-1, 1) + 1) / 2 * 255
    step = video.shape[1] // wanted.shape[2]
    got = video[dropped:, 1::step, 1::step].transpose(3, 0, 1, 2).astype(np.float32)
    assert np.abs(got - wanted).max() <= 1.0
    first = (run["video_first"].clip(-1, 1) + 1) / 2 * 255
    got = video[dropped : dropped + first.shape[1]].transpose(3, 0, 1, 2).astype(np.float32)
    assert np.abs(got - first).max() <= 1.0
