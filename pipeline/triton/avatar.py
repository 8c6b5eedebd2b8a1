"""Triton's models of the avatar, on the base of `pipeline.triton.models`."""

from collections.abc import Callable
from functools import partial
from typing import Any

from pipeline.avatar.decoder import Decoder
from pipeline.avatar.executor import DECODER, POSE, SPARE, AvatarExecutor
from pipeline.avatar.kept import KeptCaches
from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.avatar.pose import KeptPose
from pipeline.avatar.pose_encoder import CLIP_BLOCKS, PoseEncoder
from pipeline.avatar.request import parse_request
from pipeline.avatar.sink_cache import exact_blocks
from pipeline.avatar.stage import Stage
from pipeline.engines.base import Arrays
from pipeline.identity.holders import Identity
from pipeline.sessions.calls import Calls
from pipeline.sessions.drift import Distances
from pipeline.sessions.kept import DECODER_BLOCKS, Kept, keep_blocks
from pipeline.sessions.replay import Keeps, ReplayedCalls
from pipeline.sessions.spare import SparedCalls
from pipeline.triton.calls import BlsCalls, StepTensors
from pipeline.triton.drift_metrics import DriftMetrics
from pipeline.triton.live_metrics import LiveMetrics
from pipeline.triton.models import PublicModel, SessionModel
from pipeline.triton.parameters import limit, names, steps, whole_or_word, yes_or_no

STATELESS = ("audio_encoder", "audio_tokens", "text_encoder", "vae_encoder")


def stage_keep(text: str, exact: int) -> Callable[[Arrays], Kept] | None:
    """What is kept of a session at a stage, as `replay_blocks` says; None: nothing."""
    if text.strip() == "cache":
        return KeptCaches
    try:
        blocks = whole_or_word(text, word="exact", number=exact)
    except ValueError as error:
        raise ValueError(f"{error}, or cache") from None
    return keep_blocks(blocks) if blocks else None


def steps_or_any(text: str) -> list[int] | None:
    """Denoising steps of a stage; None of one that stands in for others."""
    return None if text.strip() == "any" else steps(text)


class LiveAvatarModel(PublicModel):
    """`live_avatar`, the model that clients talk to."""

    def load(self) -> None:
        stages = self.parameter("stages", names)
        sends_sink = self.parameter("sends_sink", yes_or_no)
        takes_pose = self.parameter("takes_pose", yes_or_no)
        identity = self.identity(num_steps=self.config.num_steps)
        holders = dict.fromkeys(stages, StageModel.step_tensors)
        holders[DECODER] = DecoderModel.step_tensors
        if takes_pose:
            holders[POSE] = PoseModel.step_tensors
        has_spare = self.parameter("spare", yes_or_no)
        if has_spare:
            holders[SPARE] = StageModel.step_tensors
        self.calls = BlsCalls(identity, holders, self.stateless(STATELESS))
        calls: Calls = SparedCalls(self.calls, stages, SPARE) if has_spare else self.calls
        exact = exact_blocks(self.config, -(-self.config.num_steps // len(stages)))
        keep = self.parameter("replay_blocks", partial(stage_keep, exact=exact))
        if keep is not None:
            keeps: Keeps = {**dict.fromkeys(stages, keep), DECODER: keep_blocks(DECODER_BLOCKS)}
            if takes_pose:
                keeps = {**keeps, POSE: partial(KeptPose, most=CLIP_BLOCKS)}
            calls = self.replayed = ReplayedCalls(calls, keeps)
        self.parse = partial(parse_request, config=self.config)
        limits = Distances(
            colour=self.parameter("drift_colour", limit),
            sharpness=self.parameter("drift_sharpness", limit),
            identity=self.parameter("drift_identity", limit),
        )
        self.orchestrator = AvatarOrchestrator(
            self.config,
            AvatarExecutor(
                *(self.config, stages, self.folder, calls),
                sends_sink=sends_sink,
                takes_pose=takes_pose,
            ),
            drift_limits=limits,
            reanchor=self.parameter("reanchor", yes_or_no),
            blocks_at_once=self.parameter(
                "blocks_at_once", partial(whole_or_word, word="all", number=0)
            ),
            degrade=self.parameter("degrade", yes_or_no),
            **self.limits(),
        )
        self.drift_metrics = DriftMetrics(self.name, self.orchestrator, limits)
        self.live_metrics = LiveMetrics(self.name, self.orchestrator)

    def update_metrics(self) -> None:
        super().update_metrics()
        self.drift_metrics.update()
        self.live_metrics.update()


class StageModel(SessionModel):
    """`dit_stage_N`; which denoising steps it owns is its parameter `steps`."""

    step_tensors = StepTensors("latent", held="sink")
    device_type = Stage

    def identity(self, **_: Any) -> Identity:
        owned = self.parameter("steps", steps_or_any)
        return super().identity(steps=None if owned is None else tuple(owned))

    def device_options(self) -> dict[str, Any]:
        return {"steps": self.parameter("steps", steps_or_any), **super().device_options()}


class PoseModel(SessionModel):
    """`pose_encoder`."""

    step_tensors = StepTensors("pose")
    device_type = PoseEncoder


class DecoderModel(SessionModel):
    """`vae_decoder`."""

    step_tensors = StepTensors("frames")
    device_type = Decoder
