"""Triton's models of text-to-video streams, on the base of `pipeline.triton.models`."""

from functools import partial

from pipeline.config.rolling import RollingConfig
from pipeline.config.rules import served_rules
from pipeline.engines.onnx import Engine
from pipeline.rolling.decoder import RollingDecoder
from pipeline.rolling.device import WindowDevice
from pipeline.rolling.executor import DECODER, TEXT, WINDOW, RollingExecutor
from pipeline.rolling.kept import exact_blocks, keep_streams
from pipeline.rolling.orchestrator import RollingOrchestrator
from pipeline.rolling.request import parse_rolling_request
from pipeline.sessions.kept import DECODER_BLOCKS, keep_blocks
from pipeline.sessions.replay import Keeps, ReplayedCalls
from pipeline.triton.calls import BlsCalls, StepTensors
from pipeline.triton.models import GraphModel, PublicModel, SessionModel
from pipeline.triton.parameters import whole, whole_or_word


class RollingTextModel(GraphModel):
    """`rolling_text_encoder`."""

    config_type = RollingConfig

    def load(self) -> None:
        threads = self.parameter("num_threads", whole)
        self.engine = Engine(self.folder / "text_encoder.onnx", threads)
        self.engine.warm_up()


class WindowModel(SessionModel):
    """`dit_window`; a tick that finishes no block is answered without a latent."""

    config_type = RollingConfig
    step_tensors = StepTensors("latent", held="in_flight")
    device_type = WindowDevice


class RollingDecoderModel(SessionModel):
    """`rolling_vae_decoder`."""

    config_type = RollingConfig
    step_tensors = StepTensors("frames")
    device_type = RollingDecoder


class RollingForcingModel(PublicModel):
    """`rolling_forcing`, the model that clients talk to."""

    config_type = RollingConfig

    def load(self) -> None:
        identity = self.identity()
        rules = served_rules(self.config)
        holders = {WINDOW: WindowModel.step_tensors, DECODER: RollingDecoderModel.step_tensors}
        self.calls = BlsCalls(identity, holders, self.stateless([TEXT]))
        exact = max(map(exact_blocks, rules.values()))
        blocks = self.parameter("replay_blocks", partial(whole_or_word, word="exact", number=exact))
        keeps: Keeps = {WINDOW: keep_streams(rules, blocks), DECODER: keep_blocks(DECODER_BLOCKS)}
        self.replayed = ReplayedCalls(self.calls, keeps) if blocks else None
        calls = self.replayed or self.calls
        self.parse = partial(parse_rolling_request, rules=rules)
        self.orchestrator = RollingOrchestrator(
            rules,
            RollingExecutor(self.config, self.folder, calls),
            **self.limits(),
        )
