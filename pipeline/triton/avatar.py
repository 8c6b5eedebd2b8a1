"""Triton's models of the avatar, on the base of `pipeline.triton.models`:

LiveAvatarModel   the public model: requests in, blocks out, BLS to the others
StageModel        denoising steps and their caches        (START, block n, END)
DecoderModel      the VAE decoder and its state           (START, block n, END)
"""

from typing import Any

from pipeline.avatar.decoder import Decoder
from pipeline.avatar.executor import DECODER, AvatarExecutor
from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.avatar.request import AvatarRequest, parse_request
from pipeline.avatar.stage import Stage
from pipeline.identity.holders import Identity
from pipeline.triton.calls import BlsCalls, StepTensors, tensors_of
from pipeline.triton.models import PublicModel, SessionModel
from pipeline.triton.parameters import names, seconds, steps

STATELESS = ("audio_encoder", "audio_tokens", "text_encoder", "vae_encoder")


class LiveAvatarModel(PublicModel):
    """`live_avatar`."""

    def load(self) -> None:
        stages = self.parameter("stages", names)
        idle_timeout_s = self.parameter("idle_timeout_s", seconds)
        identity = self.identity(num_steps=self.config.num_steps)
        holders = dict.fromkeys(stages, StageModel.step_tensors)
        holders[DECODER] = DecoderModel.step_tensors
        self.calls = BlsCalls(identity, holders, self.stateless(STATELESS))
        self.orchestrator = AvatarOrchestrator(
            self.config,
            AvatarExecutor(self.config, stages, self.folder, self.calls),
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

    step_tensors = StepTensors("latent")

    def identity(self, **_: Any) -> Identity:
        return super().identity(steps=tuple(self.parameter("steps", steps)))

    def device(self) -> Stage:
        stage = Stage(self.folder, self.parameter("steps", steps), **self.engine_options())
        stage.warm_up()
        return stage


class DecoderModel(SessionModel):
    """`vae_decoder`."""

    step_tensors = StepTensors("frames")

    def device(self) -> Decoder:
        decoder = Decoder(self.folder, **self.engine_options())
        decoder.warm_up()
        return decoder
