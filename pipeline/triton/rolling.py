"""Triton's models of text-to-video streams, on the base of `pipeline.triton.models`:

RollingForcingModel   the public model: requests in, blocks out, BLS to the others
WindowModel           all levels of noise and the KV caches   (START, tick n, END)
RollingDecoderModel   the VAE decoder and its state           (START, block n, END)
RollingTextModel      prompts to text rows
"""

from typing import Any

from pipeline.config.rolling import RollingConfig
from pipeline.config.rules import served_rules
from pipeline.engines.onnx import Engine
from pipeline.rolling.decoder import RollingDecoder
from pipeline.rolling.device import WindowDevice
from pipeline.rolling.executor import DECODER, TEXT, WINDOW, RollingExecutor
from pipeline.rolling.orchestrator import RollingOrchestrator
from pipeline.rolling.request import RollingRequest, parse_rolling_request
from pipeline.triton.calls import BlsCalls, StepTensors, tensors_of
from pipeline.triton.models import GraphModel, PublicModel, SessionModel
from pipeline.triton.parameters import seconds, whole


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
    step_tensors = StepTensors("latent", order="tick")

    def device(self) -> WindowDevice:
        window = WindowDevice(self.folder, **self.engine_options())
        window.warm_up()
        return window


class RollingDecoderModel(SessionModel):
    """`rolling_vae_decoder`."""

    config_type = RollingConfig
    step_tensors = StepTensors("frames")

    def device(self) -> RollingDecoder:
        decoder = RollingDecoder(self.folder, **self.engine_options())
        decoder.warm_up()
        return decoder


class RollingForcingModel(PublicModel):
    """`rolling_forcing`, the model that clients talk to."""

    config_type = RollingConfig

    def load(self) -> None:
        idle_timeout_s = self.parameter("idle_timeout_s", seconds)
        identity = self.identity()
        self.rules = served_rules(self.config)
        holders = {WINDOW: WindowModel.step_tensors, DECODER: RollingDecoderModel.step_tensors}
        self.calls = BlsCalls(identity, holders, self.stateless([TEXT]))
        self.orchestrator = RollingOrchestrator(
            self.rules,
            RollingExecutor(self.config, self.folder, self.calls),
            max_sessions=identity.max_sessions,
            idle_timeout_s=idle_timeout_s,
        )

    def parse(self, request: Any, *, start: bool, end: bool) -> RollingRequest:
        return parse_rolling_request(
            tensors_of(request),
            session=request.correlation_id(),
            start=start,
            end=end,
            rules=self.rules,
        )
