"""Two actors and a pose: in PyTorch, whose single calls equal the release's, in ONNX Runtime, and
through the running server.

The fixtures have one call with two actors and five with a pose, all on one cache that no served
stage has, so `test_dit_torch.py` and `test_dit_onnx.py` compare those. Here a run of six blocks has
both: the fixtures' noise, picture, prompt, distances, sound and poses, four stages, a ring that
wraps, and a sink that is re-calibrated.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deploy.server.local import LocalServer
from export.repository.assemble import assemble
from live_avatar_client import Block, Session
from networks.dit import DiT
from networks.vae import VAE
from pipeline.avatar.pose_encoder import PoseEncoder
from pipeline.pictures.masks import token_masks
from tests.golden import fixtures
from tests.golden.avatar.dit_stream import DiTStream, TorchDriver, load_dit
from tests.golden.avatar.onnx_driver import OnnxDriver, open_graphs
from tests.golden.fixtures import max_abs, preset, tensors

pytestmark = [fixtures.needs_golden, pytest.mark.usefixtures("one_thread")]

TOLERANCE = 1e-4
"""float32 sums of other libraries, in another order."""
NUM_BLOCKS = 6
Array = np.ndarray


class Run:
    """What the six blocks are made of."""

    def __init__(self) -> None:
        config, run, forward = preset().pipeline, fixtures.load("tpp_run"), tensors("dit_forward")
        self.data = run
        clips, per_clip = run["relative_dist"].shape[:2]
        noise = [np.split(run["noise"][clip], per_clip, axis=1) for clip in range(clips)]
        self.noise = np.concatenate([np.stack(part) for part in noise])[:NUM_BLOCKS]
        self.distances = run["relative_dist"].reshape(clips * per_clip, -1)[:NUM_BLOCKS]
        size = config.video_frames_per_block
        bucket = run["audio_bucket"][..., : NUM_BLOCKS * size]
        self.features = np.concatenate([bucket, bucket[..., ::-1]])  # the second one says it back
        odd = [forward[f"b{b}_pose"].numpy() for b in (1, 3, 5, 7, 9)]
        self.poses = np.concatenate(odd)  # of blocks 0 to 4; block 5 has none
        height, width = run["image_uint8"].shape[:2]
        self.masks = np.zeros((2, height, width), np.uint8)
        self.masks[0, : height * 3 // 8], self.masks[1, height * 5 // 8 :] = 255, 255
        self.tokens = token_masks(self.masks, (height, width), config)

    def latents(self, streams: list[DiTStream], poses: Array) -> list[Array]:
        """Final latents [C, F, h, w] of every block, on a stream for each stage."""
        config, dsigmas = streams[0].config, np.diff(self.data["sigmas"])
        size, frames = config.video_frames_per_block, config.frames_per_block
        mask = np.repeat(self.tokens[:, None], frames, axis=1)
        found: list[Array] = []
        for stream in streams:
            stream.prompt(self.data["context"])
        for block in range(NUM_BLOCKS):
            if block in (0, config.recalibrate_block):
                given = self.data["ref_latents_initial"] if not block else found[0][None, :, :1]
                for stream in streams:
                    stream.prefill(given, self.data["motion_latents"])
            x = self.noise[block]
            audio = self.features[..., block * size : (block + 1) * size]
            pose = poses[block][None] if block < len(poses) else None
            for s, stream in enumerate(streams):
                step = float(self.data["timesteps"][s]), int(self.distances[block, s])
                v = stream.velocity(block, *step, x, audio, pose=pose, mask=mask)
                x = x + dsigmas[s] * v
            found.append(x)
        return found


@pytest.fixture(scope="module")
def run() -> Run:
    return Run()


@pytest.fixture(scope="module")
def dit() -> DiT:
    return load_dit()


@pytest.fixture(scope="module")
def in_torch(run: Run, dit: DiT) -> Callable[[Array], list[Array]]:
    """Final latents under these poses, in PyTorch."""

    def play(poses: Array) -> list[Array]:
        return run.latents([DiTStream(TorchDriver(dit), dit) for _ in range(4)], poses)

    return play


@pytest.fixture(scope="module")
def wanted(run: Run, in_torch: Callable[[Array], list[Array]]) -> list[Array]:
    return in_torch(run.poses)


@pytest.fixture(scope="module")
def server(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """The fixtures' networks, with the encoder of pose videos."""
    folder = tmp_path_factory.mktemp("actors_server")
    assemble(artifacts, folder / "repository", pose=True)
    with LocalServer(folder / "repository", log_dir=folder) as running:
        yield running


@pytest.fixture(scope="module")
def video() -> Array:
    """A pose video of two clips, the second one shorter: uint8 [T, H, W, 3]."""
    size = preset().pipeline
    shape = (5 * size.video_frames_per_block, size.height, size.width, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.fixture(scope="module")
def followed(vae: VAE, video: Array) -> Array:
    """Its latents [blocks, C, F, h, w]: each clip encoded whole, its first frame before it once
    more. `test_vae.py` compares this network with the release."""
    size, latents = preset().pipeline, []
    for clip in np.split(video, [4 * size.video_frames_per_block]):
        frames = torch.from_numpy(np.concatenate([clip[:1], clip])).float() / 127.5 - 1
        with torch.inference_mode():
            latent = vae.encode(frames.permute(3, 0, 1, 2)[None])[0, :, 1:]
        latents += latent.split(size.frames_per_block, dim=1)
    return np.stack([latent.numpy() for latent in latents])


def served(server: LocalServer, run: Run, **pose: Any) -> list[Block]:
    with Session(
        url=server.grpc_url,
        image=run.data["image_uint8"],
        text=run.data["context"],
        actors=list(run.masks),
        want_latent=True,
    ) as session:
        session.send(
            noise=run.noise,
            sink_distance=run.distances,
            audio_features=np.ascontiguousarray(run.features),
            **pose,
        )
        session.finish()
        return list(session)


def test_a_run_with_both_in_onnx_runtime_equals_pytorch(
    run: Run, dit: DiT, artifacts: Path, wanted: list[Array]
) -> None:
    """The graphs as they are served would sum the actors, or add the pose, in another way."""
    graphs, config = open_graphs(artifacts), preset().pipeline
    streams = [DiTStream(OnnxDriver(graphs, config), dit) for _ in range(4)]
    found = run.latents(streams, run.poses)
    errors = [max_abs(one, other) for one, other in zip(found, wanted, strict=True)]
    assert max(errors) <= TOLERANCE, errors


def test_frames_of_a_pose_video_encode_block_by_block_as_whole_clips(
    artifacts: Path, video: Array, followed: Array
) -> None:
    """The first frame put before the clip, the state from block to block, the range of greys."""
    encoder, size = PoseEncoder(artifacts), preset().pipeline.video_frames_per_block
    encoder.open(1)
    for block, latent in enumerate(followed):
        frames = video[block * size : (block + 1) * size]
        assert max_abs(encoder.step(1, block, frames)[0], latent) <= TOLERANCE
    encoder.close(1)
    assert encoder.cache_bytes == 0


def test_a_voice_moves_where_its_mask_is_and_swapped_voices_swap_places(run: Run, dit: DiT) -> None:
    """Both would speak with one mouth. A network of random weights spreads what it hears, too."""
    own = np.zeros_like(run.tokens)  # disjoint: no ground that both move
    grid = own.reshape(2, *preset().pipeline.token_grid)
    rows = grid.shape[1] // 2
    grid[0, :rows], grid[1, rows:] = 1, 1
    mask = np.repeat(own[:, None], preset().pipeline.frames_per_block, axis=1)
    voice = run.features[:1, ..., :12]
    silence = np.zeros_like(voice)

    def velocity(*voices: Array) -> Array:
        stream = DiTStream(TorchDriver(dit), dit)
        stream.prompt(run.data["context"])
        stream.prefill(run.data["ref_latents_initial"], run.data["motion_latents"])
        audio = np.concatenate(voices)
        return stream.velocity(0, 1000.0, 30, run.noise[0], audio, mask=mask)

    quiet = velocity(silence, silence)
    half = quiet.shape[2] // 2
    for place, voices in enumerate(((voice, silence), (silence, voice))):
        moved = np.abs(velocity(*voices) - quiet)
        there = moved[:, :, half * place :][:, :, :half].mean()
        elsewhere = moved[:, :, half * (1 - place) :][:, :, :half].mean()
        assert there > 1.5 * elsewhere, (place, there, elsewhere)


@pytest.mark.triton
def test_the_server_makes_the_run_with_both(
    server: LocalServer, run: Run, wanted: list[Array]
) -> None:
    """Masks, sound, poses and their blocks, all the way from the client to the stages."""
    blocks = served(server, run, pose_latents=run.poses)
    errors = [max_abs(b.latent[0], w) for b, w in zip(blocks, wanted, strict=True)]
    assert max(errors) <= TOLERANCE, errors


@pytest.mark.triton
def test_the_server_follows_a_pose_video_as_the_release_would(
    server: LocalServer,
    run: Run,
    in_torch: Callable[[Array], list[Array]],
    video: Array,
    followed: Array,
) -> None:
    """Frames in, latents of the encoder at every stage, zeros where the video ends."""
    blocks, expected = served(server, run, pose=video), in_torch(followed)
    errors = [max_abs(b.latent[0], w) for b, w in zip(blocks, expected, strict=True)]
    assert max(errors) <= TOLERANCE, errors
