"""The calls that make an avatar's video, whatever carries them to the models."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.avatar.audio import AudioWindow
from pipeline.avatar.request import AvatarRequest
from pipeline.config.avatar import PipelineConfig
from pipeline.engines.base import Array, Arrays
from pipeline.pictures.masks import token_masks
from pipeline.pictures.reference import PICTURE_FITS, fit_frames, read_rgb
from pipeline.sessions.calls import Calls, Executor
from pipeline.sessions.replay import RECOVERY_S

DECODER = "vae_decoder"
POSE = "pose_encoder"
SPARE = "dit_spare"
"""Stands in for a stage whose process is dead."""
CONDITIONING = "conditioning"
"""What only START needs. A server is drained by unloading it (deploy/server/drain.py)."""
ENCODERS = ("text_encoder", "vae_encoder")
"""Of which it consists: while one is away, so is it."""
SETTLE_S = 0.2  # it is back a moment after them


class AvatarExecutor(Executor):
    """What `live_avatar` calls."""

    decoder = DECODER
    config: PipelineConfig

    def __init__(
        self,
        config: PipelineConfig,
        stages: Sequence[str],
        folder: Path,
        calls: Calls,
        *,
        sends_sink: bool = False,
        takes_pose: bool = False,
    ) -> None:
        """`stages` own the denoising steps, in order; `folder` has the tokenizer. With `sends_sink`
        the first stage alone computes a sink, and the others get it from there. `takes_pose`: there
        is an encoder of pose videos."""
        super().__init__(config, folder, calls)
        self.stages = stages
        self.num_stages = len(stages)
        self.sends_sink = sends_sink and len(stages) > 1
        self.takes_pose = takes_pose

    def start(self, request: AvatarRequest) -> None:
        """Condition on picture and prompt, open the session at every stage and the decoder.
        RuntimeError while the server is drained: then CONDITIONING is not loaded."""
        self.calls.ready()
        self._await_conditioning()
        text, motion, actors = self.condition(request)
        given = {"motion": motion, "text": text, **actors}
        prefill = {**given, "reference": motion[:, :, :1].copy()}
        tensors: dict[str, Arrays] = dict.fromkeys(
            self.stages, given if self.sends_sink else prefill
        )
        tensors[self.stages[0]] = prefill
        tensors[DECODER] = {"motion": motion}
        if self.takes_pose:
            tensors[POSE] = {}
        self.calls.open(request.session, tensors)

    def _await_conditioning(self) -> None:
        give_up_s = time.monotonic() + RECOVERY_S
        are_back = False
        while not self.calls.is_loaded(CONDITIONING):
            away = [name for name in ENCODERS if not self.calls.is_loaded(name)]
            if away and time.monotonic() > give_up_s:
                raise RuntimeError(f"{', '.join(away)} is away; try again later")
            if are_back and not away:
                raise RuntimeError("no new sessions here, it is being drained; try another server")
            are_back = not away
            time.sleep(SETTLE_S)

    def condition(self, request: AvatarRequest) -> tuple[Array, Array, Arrays]:
        """What START shows and says: text [1, text_len, text_dim], motion latents [1, C, F, h, w],
        and of several actors `actor_mask` [actors, S]. ValueError says why a picture, or masks,
        can't be taken."""
        assert request.image is not None, "only START requests condition a session"
        rgb, fit = read_rgb(request.image, self.config), request.options.picture_fit
        picture = PICTURE_FITS[fit](rgb, self.config.height, self.config.width)
        actors: Arrays = {}
        if request.actor_masks is not None:
            size = rgb.shape[0], rgb.shape[1]
            actors = {"actor_mask": token_masks(request.actor_masks, size, self.config, fit)}
        inputs: Arrays = {**self.tokenizer(request.prompt or ""), "image": picture}
        conditions = self.calls.call(CONDITIONING, inputs, ["text", "motion"])
        text = conditions["text"] if request.text is None else request.text
        return text, conditions["motion"], actors

    def text(self, request: AvatarRequest) -> Array:
        """What a later request says, [1, text_len, text_dim]."""
        if request.text is not None:
            return request.text
        tokens = self.tokenizer(request.prompt or "")
        return self.calls.call("text_encoder", tokens, ["text"])["text"]

    def encode_audio(self, window: AudioWindow) -> Array:
        """Features [1, L+1, Ca, video frames of a block]."""
        inputs: Arrays = {
            "samples": window.samples,
            "frame_index": window.frame_index,
            "frame_weight": window.frame_weight,
        }
        return self.calls.call("audio_encoder", inputs, ["audio_features"])["audio_features"]

    def encode_pose(
        self, session: int, tick: int, block: int, frames: Array, fit: str = "cover"
    ) -> Array:
        """Frames uint8 [T, h, w, 3] of a block, of any size -> latent [1, C, F, h, w]."""
        fitted = fit_frames(frames, self.config, fit)
        given: Arrays = {"block": np.array([block], np.int64), "frames": fitted}
        pose = self.calls.step(POSE, session, tick, given)
        assert pose is not None, "the pose encoder answered without a latent"
        return pose

    def audio_tokens(self, audio_features: Array) -> Arrays:
        """Features of a block -> audio_local [actors, F, tokens + 1, D], audio_global [actors, F,
        D]."""
        inputs = {"audio_features": audio_features}
        return self.calls.call("audio_tokens", inputs, ["audio_local", "audio_global"])

    def step(
        self, stage: int, session: int, tick: int, block: int, gives_sink: bool, **tensors: Any
    ) -> tuple[Array | None, Array | None]:
        """Denoise; tensors as in `Stage.step`. The latent, None if none was given, and what the
        sink holds then if that is wanted: the tensor `sink` of the other stages' step."""
        given = {"block": np.array([block], np.int64), **tensors}
        asked, sink = (self.stages[stage], session, tick, given), None
        if gives_sink:
            latent, sink = self.calls.step_and_read(*asked, "sink")
        else:
            latent = self.calls.step(*asked)
        if latent is None and "latent" in tensors:
            raise RuntimeError(f"{self.stages[stage]} answered without a latent")
        return latent, sink
