"""The VAE in PyTorch and in ONNX Runtime against the release."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from export.graphs.onnx_file import export_graph
from export.graphs.vae import WEIGHTS, graphs, to_uint8
from networks.checkpoint import build_seeded, save_checkpoint
from networks.configs import VAEConfig
from networks.presets import PRESETS
from networks.vae import VAE
from pipeline.pictures.reference import fit_picture
from tests.golden.avatar.onnx_driver import open_session
from tests.golden.avatar.vae_streams import longest_still, stream_frames, stream_latents
from tests.golden.fixtures import (
    GOLDEN_ROOT,
    keys_like,
    max_abs,
    needs_golden,
    numbered,
    preset,
    tensors,
)

pytestmark = needs_golden

TOLERANCE = 2e-5
"""Float32 sums in another order reach 4e-6 on these latents and frames."""
ONNX_TOLERANCE = 1e-4
"""Another library's kernels: five times eager PyTorch's."""


def decode_blocks(vae: VAE, warmup: Tensor, blocks: list[Tensor]) -> list[Tensor]:
    state, frames = vae.decode(warmup)[1], []
    for block in blocks:
        video, state = vae.decode(block, state)
        frames.append(video)
    return frames


def tpp_image() -> np.ndarray:
    config = preset().pipeline
    return fit_picture(tensors("tpp_run")["image_uint8"].numpy(), config.height, config.width)


def test_keys_and_shapes_of_the_released_network() -> None:
    """The released checkpoint would not load."""
    with torch.device("meta"):
        state = VAE(PRESETS["14b"].vae).state_dict()
    assert len(state) == 194
    assert sum(tensor.numel() for tensor in state.values()) == 126_892_531
    assert list(state["decoder.upsamples.4.shortcut.weight"].shape) == [384, 192, 1, 1, 1]
    assert list(state["encoder.middle.1.norm.gamma"].shape) == [384, 1, 1]


def test_clips_encode_as_in_the_release(vae: VAE, io: dict[str, Tensor]) -> None:
    """Reference pictures and real clips would land elsewhere in latent space."""
    names = [name for name in io if f"{name}_latent" in io]
    assert len(names) >= 2, "a picture and a clip are wanted"
    for name in names:
        assert max_abs(vae.encode(io[name][None])[0], io[f"{name}_latent"]) <= TOLERANCE, name


def test_still_clips_encode_as_in_the_release(vae: VAE, io: dict[str, Tensor]) -> None:
    """Motion latents come from here, by the short way that computes changing frames only."""
    image, stills = io["image"][None], numbered(io, r"static(\d+)_latent")
    assert stills
    for count, key in stills.items():
        assert max_abs(vae.encode(image, count)[0], io[key]) <= TOLERANCE, key
        assert max_abs(vae.encode(image.repeat(1, 1, count, 1, 1))[0], io[key]) <= TOLERANCE, key


def test_black_frames_encode_as_in_the_release(vae: VAE, io: dict[str, Tensor]) -> None:
    """A constant input shows what bias and padding alone do."""
    black = torch.full_like(io["image"][None], -1)
    for key, (num_frames,) in keys_like(io, r"black\d+_latent").items():
        assert max_abs(vae.encode(black, num_frames)[0], io[key]) <= TOLERANCE, key


def test_a_clip_encoded_block_by_block_is_as_in_the_release(
    vae: VAE, io: dict[str, Tensor]
) -> None:
    """A pose video's latents: the clip's first frame alone, then blocks of twelve on its state."""
    (key, *_), size = keys_like(io, r"video\d+"), preset().pipeline.video_frames_per_block
    black = torch.full_like(io["image"][None], -1).repeat(1, 1, 4 * size + 1, 1, 1)
    for clip, wanted in ((io[key][None], io[f"{key}_latent"]), (black, io["black49_latent"])):
        latent, state = vae.encode_on(clip[:, :, :1])
        latents = [latent]
        for block in clip[:, :, 1:].split(size, dim=2):
            latent, state = vae.encode_on(block, state)
            latents.append(latent)
        assert max_abs(torch.cat(latents, 2)[0], wanted) <= TOLERANCE
    with pytest.raises(ValueError, match=r"13 frames .* wanted a multiple of 4"):
        vae.encode_on(black[:, :, :13], state)


def test_a_number_of_frames_that_is_no_clip_is_refused(vae: VAE, io: dict[str, Tensor]) -> None:
    """Frames would be dropped in silence."""
    clip = io["image"][None].repeat(1, 1, 12, 1, 1)
    with pytest.raises(ValueError, match=r"12 frames .* wanted 1 \+ a multiple of 4"):
        vae.encode(clip)


def test_streamed_blocks_decode_as_in_the_release(vae: VAE, io: dict[str, Tensor]) -> None:
    """What viewers see."""
    num_warmup = preset().pipeline.warmup_frames
    warmup = longest_still(io)[None, :, :num_warmup]
    frames = vae.decode(warmup)[0][0].clamp(-1, 1)
    assert frames.shape[1] == 4 * num_warmup - 3
    for part in ("first", "last"):
        for key, (count,) in keys_like(io, rf"stream_warmup_{part}\d+").items():
            got = frames[:, :count] if part == "first" else frames[:, -count:]
            assert max_abs(got, io[key]) <= TOLERANCE, key
    streamed = decode_blocks(vae, warmup, stream_latents(io))
    for video, wanted in zip(streamed, stream_frames(io), strict=True):
        assert max_abs(video[0].clamp(-1, 1), wanted) <= TOLERANCE


def test_streamed_blocks_equal_the_whole_clip(vae: VAE, io: dict[str, Tensor]) -> None:
    """Blocks of any size must leave no seam."""
    z = io["z_blocks"][None]
    whole, _ = vae.decode(z)
    for size in (1, 2, 4):
        first, *rest = z.split(size, dim=2)
        streamed = [vae.decode(first)[0], *decode_blocks(vae, first, rest)]
        assert max_abs(torch.cat(streamed, 2), whole) <= TOLERANCE


def test_the_first_latent_of_a_stream_is_one_frame(vae: VAE, io: dict[str, Tensor]) -> None:
    """A stale "first frame" flag is the release's own defect."""
    frames = vae.decode(io["z_blocks"][None, :, :1])[0][0].clamp(-1, 1)
    assert max_abs(frames, io["decode_noncached_first_latent"]) <= TOLERANCE


def test_clips_of_a_batch_do_not_touch(vae: VAE, io: dict[str, Tensor]) -> None:
    """Rows interleave batch and time, so a wrong stride would mix two clips."""
    z = torch.cat([io["z_blocks"][None], io["z_blocks"][None].flip(2)])
    video, _ = vae.decode(z)
    for i in range(2):
        assert max_abs(video[i : i + 1], vae.decode(z[i : i + 1])[0]) <= TOLERANCE
        one = vae.encode(video[i : i + 1])
        assert max_abs(vae.encode(video)[i : i + 1], one) <= 10 * TOLERANCE  # latents reach 10


def test_conditioning_latents_of_the_full_run(vae: VAE) -> None:
    """The reference is the first motion latent: one encode serves both."""
    run, config = tensors("tpp_run"), preset().pipeline
    motion = vae.encode(torch.from_numpy(tpp_image())[:, :, None], 4 * config.motion_frames - 3)
    assert max_abs(motion[0, :, :1], run["ref_latents_initial"].view_as(motion[0, :, :1])) <= 2e-5
    assert max_abs(motion[0], run["motion_latents"].view_as(motion[0])) <= TOLERANCE


def full_run_video(frames: list[np.ndarray]) -> np.ndarray:
    """[3, T, H, W] without the frames that the release drops, 3."""
    video = np.concatenate(frames)
    kept = tensors("tpp_run")["video_strided"].shape[-3]
    return video[len(video) - kept :].transpose(3, 0, 1, 2)


def check_full_run(video: np.ndarray, tolerance: float) -> None:
    run = tensors("tpp_run")
    first, strided = run["video_first"].numpy(), run["video_strided"].numpy()
    assert (
        max_abs(video[:, : first.shape[-3]], first.reshape(3, -1, *first.shape[-2:])) <= tolerance
    )
    step = video.shape[2] // strided.shape[-2]
    assert (
        max_abs(video[:, :, 1::step, 1::step], strided.reshape(3, -1, *strided.shape[-2:]))
        <= tolerance
    )


def full_run_blocks() -> list[Tensor]:
    latents = tensors("tpp_run")["final_latents"]  # [clip, block, C, F, h, w]
    return list(latents.flatten(0, 1).split(1))


def test_frames_of_the_full_run(vae: VAE) -> None:
    """The last stretch of the pipeline, over all clips of a run."""
    config = preset().pipeline
    motion = tensors("tpp_run")["motion_latents"]
    warmup = motion.view(1, *motion.shape[-4:])[:, :, : config.warmup_frames]
    frames = decode_blocks(vae, warmup, full_run_blocks())
    check_full_run(
        full_run_video([f[0].clamp(-1, 1).permute(1, 2, 3, 0).numpy() for f in frames]), 2e-5
    )


def test_frames_round_to_the_nearest_grey() -> None:
    """Truncation would darken every frame by half a level."""
    values = torch.tensor([-2.0, -1.0, -0.999, 0.0, 0.999, 1.0, 2.0])
    assert to_uint8(values).tolist() == [0, 0, 0, 128, 255, 255, 255]


def test_decoder_graph_streams_as_pytorch_does(tmp_path: Path) -> None:
    """The states must go out in the order they come in. A small network shows it."""
    golden = preset()
    small = dataclasses.replace(
        golden, vae=VAEConfig(dim=8, dim_mult=(1, 1, 1, 1), num_res_blocks=1)
    )
    vae = build_seeded(lambda: VAE(small.vae), seed=0)
    save_checkpoint(vae, tmp_path / WEIGHTS)
    decode = next(graph for graph in graphs(small, tmp_path) if graph.name == "vae_decoder")
    session = open_session(export_graph(decode, tmp_path))
    z = torch.randn(1, *golden.pipeline.latent_shape[1:], generator=torch.manual_seed(0))
    state = vae.decode(z)[1]
    feeds = {f"state_{i}": tensor.numpy() for i, tensor in enumerate(state)}
    for _ in range(3):
        video, state = vae.decode(z, state)
        frames, *got = session.run(None, {"latent": z.numpy(), **feeds})
        assert frames.shape == (video.shape[2], *video.shape[3:], 3)
        assert max_abs(frames, to_uint8(video[0]).permute(1, 2, 3, 0)) <= 1  # rounding
        for one, other in zip(got, state, strict=True):
            assert max_abs(one, other) <= ONNX_TOLERANCE
        feeds = {f"state_{i}": array for i, array in enumerate(got)}


def test_graphs_play_the_full_run(artifacts: Path) -> None:
    """The served graphs, from picture to 8-bit frames."""
    encoder, warmup, decoder = (
        open_session(artifacts / f"vae_{name}.onnx")
        for name in ("encoder", "decoder_warmup", "decoder")
    )
    config, run = preset().pipeline, tensors("tpp_run")
    (motion,) = encoder.run(None, {"image": tpp_image()})
    assert max_abs(motion[0], run["motion_latents"].view(motion[0].shape)) <= ONNX_TOLERANCE
    states = [i.name for i in decoder.get_inputs() if i.name.startswith("state_")]
    state = warmup.run(
        [f"next_{name}" for name in states], {"motion": motion[:, :, : config.warmup_frames]}
    )
    frames = []
    for latent in full_run_blocks():
        feeds = dict(zip(states, state, strict=True))
        block, *state = decoder.run(
            ["frames", *(f"next_{name}" for name in states)], {"latent": latent.numpy(), **feeds}
        )
        assert block.dtype == np.uint8
        assert block.shape == (config.video_frames_per_block, config.height, config.width, 3)
        frames.append(block.astype(np.float32))
    # Half a level of rounding, and one where the exact value lies between two.
    check_full_run(full_run_video(frames) / 127.5 - 1, 1.01 / 127.5)


def test_graphs_hold_no_weights(artifacts: Path) -> None:
    """Weights would be stored twice, and once more per graph."""
    for name in ("vae_encoder", "vae_decoder_warmup", "vae_decoder"):
        assert (artifacts / f"{name}.onnx").stat().st_size < 400_000


def test_the_list_of_released_keys_is_met() -> None:
    """Key for key, where the specification is at hand."""
    path = GOLDEN_ROOT.parent / "spec" / "live_avatar_vae_keys.json"
    if not path.is_file():
        pytest.skip(f"no list of keys at {path}")
    with torch.device("meta"):
        state = VAE(PRESETS["14b"].vae).state_dict()
    shapes = {key: list(tensor.shape) for key, tensor in state.items()}
    assert shapes == json.loads(path.read_text())["keys"]
