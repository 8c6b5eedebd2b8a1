"""Triton's models of the avatar, on the base of `pipeline.triton.models`:

LiveAvatarModel   the public model: requests in, blocks out, BLS to the others
StageModel        denoising steps and their caches        (START, block n, END)
DecoderModel      the VAE decoder and its state           (START, block n, END)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.avatar.audio import AudioWindow
from pipeline.avatar.decoder import Decoder
from pipeline.avatar.orchestrator import LiveAvatar
from pipeline.avatar.request import AvatarRequest, parse_request
from pipeline.avatar.stage import Stage
from pipeline.config.avatar import PipelineConfig
from pipeline.identity.holders import Identity
from pipeline.pictures.reference import read_picture
from pipeline.sessions.text import Tokenizer, pad_text
from pipeline.triton.calls import BlsExecutor, tensors_of
from pipeline.triton.models import PublicModel, SessionModel
from pipeline.triton.parameters import names, seconds, steps

STATELESS = ("audio_encoder", "audio_tokens", "text_encoder", "vae_encoder")


class LiveAvatarModel(PublicModel):
    """`live_avatar`."""

    def load(self) -> None:
        stages = self.parameter("stages", names)
        idle_timeout_s = self.parameter("idle_timeout_s", seconds)
        identity = self.identity(num_steps=self.config.num_steps)
        executor = TritonExecutor(
            identity, self.config, stages, self.folder, self.stateless(STATELESS)
        )
        self.executor = executor
        self.orchestrator = LiveAvatar(
            self.config,
            executor,
            max_sessions=identity.max_sessions,
            idle_timeout_s=idle_timeout_s,
        )

    def parse(self, request: Any, *, start: bool, end: bool) -> AvatarRequest:
        return parse_request(
            tensors_of(request),
            session=request.correlation_id(),
            start=start,
            end=end,
            config=self.config,
        )


class StageModel(SessionModel):
    """`dit_stage_N`; which denoising steps it owns is its parameter `steps`."""

    output = "latent"

    def identity(self, **_: Any) -> Identity:
        return super().identity(steps=tuple(self.parameter("steps", steps)))

    def device(self) -> Stage:
        stage = Stage(self.folder, self.parameter("steps", steps), **self.engine_options())
        stage.warm_up()
        return stage


class DecoderModel(SessionModel):
    """`vae_decoder`."""

    output = "frames"

    def device(self) -> Decoder:
        decoder = Decoder(self.folder, **self.engine_options())
        decoder.warm_up()
        return decoder


class TritonExecutor(BlsExecutor):
    """What `live_avatar` calls (`pipeline.avatar.lanes.Executor`)."""

    def __init__(
        self,
        identity: Identity,
        config: PipelineConfig,
        stages: list[str],
        folder: Path,
        stateless: Sequence[Identity],
    ) -> None:
        holders = dict.fromkeys([*stages, "vae_decoder"], "block")
        super().__init__(identity, holders, stateless)
        self.config = config
        self.stages = stages
        self.num_stages = len(stages)
        self.tokenizer = Tokenizer(config, folder)

    def start(self, request: AvatarRequest) -> None:
        assert request.image is not None
        self.forget_strangers()
        inputs: dict[str, np.ndarray] = {
            **self.tokenizer(request.prompt),
            "image": read_picture(request.image, self.config, request.options.picture_fit),
        }
        conditions = self.call("conditioning", inputs, ["text", "motion"])
        motion, text = conditions["motion"], conditions["text"]
        if request.text is not None:
            text = pad_text(request.text, self.config)
        prefill = {"reference": motion[:, :, :1].copy(), "motion": motion, "text": text}
        tensors: dict[str, Mapping[str, np.ndarray]] = dict.fromkeys(self.stages, prefill)
        self.open(request.session, {**tensors, "vae_decoder": {"motion": motion}})

    def encode_audio(self, window: AudioWindow) -> np.ndarray:
        inputs: dict[str, np.ndarray] = {
            "samples": window.samples,
            "frame_index": window.frame_index,
            "frame_weight": window.frame_weight,
        }
        return self.call("audio_encoder", inputs, ["audio_features"])["audio_features"]

    def audio_tokens(self, audio_features: np.ndarray) -> dict[str, np.ndarray]:
        inputs = {"audio_features": audio_features}
        return self.call("audio_tokens", inputs, ["audio_local", "audio_global"])

    def step(self, stage: int, session: int, block: int, **tensors: Any) -> np.ndarray:
        inputs = {"block": np.array([block], np.int64), **tensors}
        return self.hold(self.stages[stage], session, 0, inputs, ["latent"])["latent"]

    def decode(self, session: int, block: int, latent: np.ndarray) -> np.ndarray:
        inputs = {"block": np.array([block], np.int64), "latent": latent}
        return self.hold("vae_decoder", session, 0, inputs, ["frames"])["frames"]
