"""Models that hold sessions: a stage, the decoder, the pose encoder, the joint window."""

import dataclasses
import os
from concurrent.futures import Future
from functools import partial
from typing import Any

import numpy as np

from pipeline.engines.device_sessions import Device, SessionWorker
from pipeline.engines.manifest import Manifest, check_sources
from pipeline.engines.onnx import Engine
from pipeline.identity.file_hashes import read_hashes
from pipeline.identity.holders import OUTPUT, Identity
from pipeline.sessions.words import words_of
from pipeline.triton.calls import ALL_SESSIONS, FIRST, START, TICK, StepTensors, tensors_of
from pipeline.triton.metrics import CacheSize
from pipeline.triton.models import InnerModel
from pipeline.triton.parameters import whole, yes_or_no
from pipeline.triton.reply import FINAL, failure, response


class SessionModel(InnerModel):
    """A device with sessions. The worker's thread sends the answers, so Triton brings the next
    request while the device works on this one. It does so before it begins the next block, which
    writes where a block that had to be made again would read (`pipeline.avatar.kept`)."""

    step_tensors: StepTensors
    device_type: type[Any]  # what runs the sessions, of a folder and `device_options`
    holds_sessions = True

    def device_options(self) -> dict[str, Any]:
        """Which engine runs the graphs, and on what: the instance's GPU, or a number of cores."""
        if (engine := self.parameter("engine", str)) == "tensorrt":
            # Only here: TensorRT and CUDA need not be there on a CPU.
            from pipeline.engines.tensorrt import plan_loader

            return {"load_engine": plan_loader(self.gpu)}
        if engine != "onnxruntime":
            wanted = "'onnxruntime' or 'tensorrt'"
            raise ValueError(f"{self.name}: engine is {engine!r}, wanted {wanted}")
        return {
            "num_threads": self.parameter("num_threads", whole),
            "load_engine": partial(Engine, spinning=self.parameter("spinning", yes_or_no)),
        }

    def device(self) -> Device:
        """What runs the sessions, warmed up."""
        device = self.device_type(self.folder, **self.device_options())
        device.warm_up()
        return device  # type: ignore[no-any-return]

    def load(self) -> None:
        identity = self.identity()
        told = dataclasses.replace(identity, process=os.getpid())
        self.told = np.frombuffer(told.to_json(), np.uint8)
        device = self.device()
        self.worker = SessionWorker(device, self.name, identity.max_sessions)
        self.cache_size = CacheSize(self.name, device)

    def identity(self, **steps: Any) -> Identity:
        """Of plans it tells what they were made from: a plan's bytes are another on each GPU.
        ValueError if that is not what its hashes.json lists."""
        own = super().identity(**steps)
        manifests = [Manifest.load(path) for path in sorted(self.folder.glob("*.manifest.json"))]
        check_sources(manifests, read_hashes(self.folder), self.name)
        sources = {name: sha256 for m in manifests for name, sha256 in m.sources.items()}
        return dataclasses.replace(own, files={**own.files, **sources})

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            sender = request.get_response_sender()
            if (refused := self._refused(request)) is not None:
                sender.send(refused, FINAL)
                continue
            try:
                begun = self._begun(request)
            except Exception as error:
                begun = _ended(error)
            begun.add_done_callback(partial(self._send, request, sender))

    def _begun(self, request: Any) -> Future[Any]:
        """What becomes of what a request asks."""
        session, flags, tensors = request.correlation_id(), request.flags(), tensors_of(request)
        tick = tensors.pop(TICK, FIRST[TICK] if flags else None)
        if tick is None:
            raise ValueError(f"request has no input {TICK}")
        if flags & START and session == ALL_SESSIONS:
            return _ended(None)  # opens nothing: asks what this model is
        if flags & START:
            return self.worker.open(session, tensors, int(tick[0]))
        if flags:
            everyone = session == ALL_SESSIONS
            return self.worker.close_all() if everyone else self.worker.close(session)
        if (held := self._held(request)) is not None:
            return self.worker.step_and_read(session, int(tick[0]), tensors, held)
        return self.worker.step(session, int(tick[0]), tensors)

    def _held(self, request: Any) -> str | None:
        """What is to be read of the session after a step."""
        held = self.step_tensors.held
        return held if held in request.requested_output_names() else None

    def _send(self, request: Any, sender: Any, done: Future[Any]) -> None:
        sender.send(self._answer(request, done), FINAL)

    def _answer(self, request: Any, done: Future[Any]) -> Any:
        """The response to a request that is done."""
        if (error := done.exception()) is not None:  # the worker has logged a fault of the device
            return failure(words_of(error))
        if request.flags():
            self.cache_size.update()
            return response({OUTPUT: self.told} if request.flags() & START else {})
        if (held := self._held(request)) is None:
            found = {self.step_tensors.output: done.result()}
        else:
            found = dict(zip((self.step_tensors.output, held), done.result(), strict=True))
        return response({name: array for name, array in found.items() if array is not None})

    def finalize(self) -> None:
        self.worker.stop()


def _ended(error: Exception | None) -> Future[Any]:
    """What is over already: with `error`, or with nothing to tell."""
    future: Future[Any] = Future()
    future.set_result(None) if error is None else future.set_exception(error)
    return future
