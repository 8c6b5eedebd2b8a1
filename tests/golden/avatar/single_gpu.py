"""The release's single-device mode (docs/method.md section 12), on whichever driver computes it.

What differs from the pipeline: reference and motion come from longer still clips, the sink is
refreshed after clip 0 with motion encoded anew from pixels, and a clip is decoded as a whole,
behind all motion latents, instead of block by block.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.denoising.schedule import Schedule
from pipeline.pictures.reference import fit_picture
from tests.golden.avatar.dit_plays import checksum_error
from tests.golden.avatar.dit_stream import DiTStream
from tests.golden.fixtures import keys_like, manifest, max_abs, preset, tensors

Array = NDArray[np.float32]
REFERENCE_FRAMES = 5
"""Frames of the still clip whose second latent is the reference."""


class Pixels(Protocol):
    """The VAE on whole clips; latents [1, C, t, h, w], frames [1, 3, T, H, W] in [-1, 1]."""

    def still(self, image: Array, num_frames: int) -> Array:
        """A picture [1, 3, H, W], shown for so many frames."""

    def encode(self, video: Array) -> Array: ...

    def decode(self, latents: Array) -> Array: ...


def num_dropped() -> int:
    """Frames that the release leaves out of the first clip: 3."""
    about = manifest()["single_gpu_run"]
    return about["clips"] * manifest()["run"]["infer_frames"] - about["video_frames"][1]


def motion_frames() -> int:
    """Pixel frames behind the motion latents: five times the pipeline's."""
    return REFERENCE_FRAMES * manifest()["run"]["motion_frames"]


def play(streams: list[DiTStream], pixels: Pixels) -> dict[str, float]:
    """The whole run from picture and noise; the largest error of each kind of result."""
    data, config = tensors("single_gpu_run"), preset().pipeline
    image = fit_picture(data["image_uint8"].numpy(), config.height, config.width)
    reference = pixels.still(image, REFERENCE_FRAMES)[:, :, 1:2]
    history = np.repeat(image[:, :, None], motion_frames(), axis=2)
    motion = pixels.still(image, motion_frames())
    errors = {
        "reference": max_abs(reference, data["ref_latents_initial"]),
        "motion_first": _motion_error(motion, "initial_first"),
        "motion_last": _motion_error(motion, "initial_last"),
    }
    for stream in streams:
        stream.prompt(data["context"])
    video = []
    for clip in range(len(data["relative_dist"])):
        if clip < 2:
            errors[f"sink_sum_{clip}"] = _refresh(streams, clip, reference, motion)
        latents, found = _denoise(streams, clip)
        errors |= found
        frames = _decode(pixels, clip, motion, latents)
        video.append(frames)
        if clip + 1 == len(data["relative_dist"]):
            break
        history = np.concatenate([history, frames], axis=2)[:, :, -motion_frames() :]
        motion = pixels.encode(history)
        if clip == 0:
            reference = latents[None, :, :1]
            errors["reference_again"] = max_abs(reference, data["ref_latents_recalibrated"])
            errors["motion_again"] = _motion_error(motion, "after_clip0_last")
    return errors | _frame_errors(np.concatenate(video, axis=2)[0])


def _motion_error(motion: Array, part: str) -> float:
    """Of the latents that the fixtures hold: the first, or the last, so and so many."""
    data, worst = tensors("single_gpu_run"), 0.0
    for key in keys_like(data, rf"motion_latents_{part}\d+"):
        count = data[key].shape[2]
        got = motion[:, :, :count] if part.endswith("first") else motion[:, :, -count:]
        worst = max(worst, max_abs(got, data[key]))
    return worst


def _refresh(streams: list[DiTStream], clip: int, reference: Array, motion: Array) -> float:
    """Prefill every sink; the error of its checksums."""
    wanted = tensors("single_gpu_run")["sink_checksums"][clip]
    worst = 0.0
    for stage, stream in enumerate(streams):
        stream.prefill(reference, motion[:, :, -preset().pipeline.motion_frames :])
        for layer in range(stream.config.num_layers):
            error = checksum_error(stream.sink(layer), wanted[stage][layer][-2:])
            worst = max(worst, error)
    return worst


def _denoise(streams: list[DiTStream], clip: int) -> tuple[Array, dict[str, float]]:
    """A clip's latents [C, F, h, w] from its noise, and the worst error of any stage."""
    data, config = tensors("single_gpu_run"), preset().pipeline
    stage_input, final = data["stage_input"][clip], data["final_latents"][clip]
    schedule, columns = Schedule(config.num_steps, config.shift), config.video_frames_per_block
    worst, blocks = {f"latent_{clip}": 0.0, f"velocity_{clip}": 0.0}, []
    for b in range(len(final)):
        g = clip * len(final) + b
        x = stage_input[b, 0].numpy()
        audio = data["audio_bucket"][..., g * columns : (g + 1) * columns]
        for s, stream in enumerate(streams):
            dsigma, before = schedule.dsigmas[s], stage_input[b, s].numpy()
            distance = int(data["relative_dist"][clip, b, s])
            velocity = stream.velocity(g, float(schedule.timesteps[s]), distance, x, audio)
            x = x + dsigma * velocity
            after = (final[b] if s + 1 == len(streams) else stage_input[b, s + 1]).numpy()
            _note(worst, f"latent_{clip}", max_abs(x, after))
            if abs(dsigma) > 0.1:  # a stored velocity would be; dividing by less enlarges rounding
                _note(worst, f"velocity_{clip}", max_abs(velocity, (after - before) / dsigma))
        blocks.append(x)
    return np.concatenate(blocks, axis=1), worst


def _note(worst: dict[str, float], name: str, error: float) -> None:
    worst[name] = max(worst[name], error)


def _decode(pixels: Pixels, clip: int, motion: Array, latents: Array) -> Array:
    """A clip's frames; the first clip lacks the 3 that the release drops."""
    decoded = pixels.decode(np.concatenate([motion, latents[None]], axis=2)).clip(-1, 1)
    frames = decoded[:, :, -manifest()["run"]["infer_frames"] :]
    return frames[:, :, num_dropped() :] if clip == 0 else frames


def _frame_errors(video: Array) -> dict[str, float]:
    """video [3, T, H, W]."""
    data = tensors("single_gpu_run")
    wanted = manifest()["single_gpu_run"]["video_frames"]
    assert list(video.shape) == wanted
    whole = keys_like(data, r"video_frames_\d+_\d+")
    step = video.shape[2] // data["video_strided"].shape[2]
    return {
        "frames_whole": max(
            max_abs(video[:, start:end], data[key]) for key, (start, end) in whole.items()
        ),
        "frames": max_abs(video[:, :, 1::step, 1::step], data["video_strided"]),
    }
