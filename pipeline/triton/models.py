"""The Python backend's kinds of models, on which `pipeline.triton.avatar` and `.rolling` stand.

    GraphModel    one stateless graph                            (encoders)
    SessionModel  a device with sessions' state                  (START, block or tick n, END)
    PublicModel   what clients talk to: requests in, blocks out, calls to the others (BLS)

Only the public model is decoupled. A BLS call of a decoupled model leaves its response to a thread
of the backend that frees Python objects without holding the interpreter's lock: a crash with Python
3.12, a race before.
"""

import dataclasses
import json
import logging
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb

from pipeline.config.avatar import PipelineConfig
from pipeline.config.sizes import StreamConfig
from pipeline.engines.base import Array
from pipeline.engines.device_sessions import Device, DeviceSessions
from pipeline.engines.manifest import Manifest, check_sources, manifest_path
from pipeline.engines.onnx import Engine
from pipeline.identity.file_hashes import HASHES, check_files, read_hashes
from pipeline.identity.holders import OUTPUT, Identity
from pipeline.sessions.control import SHUTTING_DOWN
from pipeline.sessions.orchestrator import Orchestrator
from pipeline.sessions.pace import Pace
from pipeline.sessions.replay import ReplayedCalls
from pipeline.sessions.tracing import Tracer
from pipeline.sessions.words import words_of
from pipeline.triton import parent_server
from pipeline.triton.callers import Callers
from pipeline.triton.calls import ALL_SESSIONS, END, START, TICK, BlsCalls, StepTensors, tensors_of
from pipeline.triton.log import write_to_triton
from pipeline.triton.metrics import CacheSize, Metrics
from pipeline.triton.parameters import check_one_instance, seconds, whole, yes_or_no
from pipeline.triton.reply import TritonReply

logger = logging.getLogger(__name__)

WATCH_S = 0.5
TRACES_VARIABLE = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
"""Environment variable: where traces of blocks go. Triton is told of it, too (--trace-config)."""


class Model(ABC):
    """What every model reads when it loads: its folder, its configuration and its parameters."""

    config_type: type[StreamConfig] = PipelineConfig
    holds_sessions = False

    def initialize(self, args: dict[str, str]) -> None:
        write_to_triton()
        self.name = args["model_name"]
        self.folder = Path(args["model_repository"]) / args["model_version"]
        self.gpu = int(args["model_instance_device_id"])
        self.files = check_files(self.folder, self.name)
        self.config: Any = self.config_type.load(self.folder / self.config_type.FILE)
        given = json.loads(args["model_config"])
        entries = given.get("parameters", {})
        self.parameters = {key: entry["string_value"] for key, entry in entries.items()}
        if self.holds_sessions:
            check_one_instance(self.name, given.get("instance_group", []))
        self.load()

    @abstractmethod
    def load(self) -> None:
        """Load what the model runs; ValueError ends the load."""

    def parameter(self, name: str, cast: Callable[[str], Any]) -> Any:
        """A run-time knob of config.pbtxt; ValueError if it is missing or malformed."""
        if name not in self.parameters:
            raise ValueError(f"{self.name}: config.pbtxt has no parameter {name!r}")
        try:
            return cast(self.parameters[name])
        except ValueError as error:
            raise ValueError(
                f"{self.name}: parameter {name} is {self.parameters[name]!r}: {error}"
            ) from error

    def identity(self, **steps: Any) -> Identity:
        """What this model is, for those that it works with."""
        return Identity(
            model=self.name,
            max_sessions=self.parameter("max_sessions", whole),
            config_file=self.config_type.FILE,
            config=dataclasses.asdict(self.config),
            files=self.files,
            **steps,
        )


class InnerModel(Model):
    """A model that serves public ones, and whoever knows the server's key."""

    def initialize(self, args: dict[str, str]) -> None:
        self.callers = Callers(args["model_name"])
        super().initialize(args)

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._refused(request) or self._answer(request) for request in requests]

    @abstractmethod
    def _answer(self, request: Any) -> Any:
        """The response to one request."""

    def _refused(self, request: Any) -> Any:
        words = self.callers.refusal(request)
        return pb.InferenceResponse(error=pb.TritonError(words)) if words else None


class GraphModel(InnerModel):
    """A stateless graph: `<model name>.onnx`."""

    def load(self) -> None:
        threads = self.parameter("num_threads", whole)
        self.engine = Engine(self.folder / f"{self.name}.onnx", threads)
        c = self.config
        sizes = {"num_samples": c.samples_per_block, "T": c.video_frames_per_block, "actors": 1}
        self.engine.warm_up(**sizes)

    def _answer(self, request: Any) -> Any:
        try:
            outputs = self.engine.run(tensors_of(request))
        except Exception as error:
            logger.exception("%s failed", self.name)
            return pb.InferenceResponse(error=pb.TritonError(words_of(error)))
        return pb.InferenceResponse([pb.Tensor(name, array) for name, array in outputs.items()])


class SessionModel(InnerModel):
    """A device with sessions; one request at a time."""

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
        self.sessions = DeviceSessions(device, self.name, identity.max_sessions)
        self.cache_size = CacheSize(self.name, device)

    def identity(self, **steps: Any) -> Identity:
        """Of plans it tells what they were made from: a plan's bytes are another on each GPU.
        ValueError if that is not what its hashes.json lists."""
        own = super().identity(**steps)
        manifests = [Manifest.load(path) for path in sorted(self.folder.glob("*.manifest.json"))]
        check_sources(manifests, read_hashes(self.folder), self.name)
        sources = {name: sha256 for m in manifests for name, sha256 in m.sources.items()}
        return dataclasses.replace(own, files={**own.files, **sources})

    def _answer(self, request: Any) -> Any:
        held = self.step_tensors.held
        what = held if held in request.requested_output_names() else None
        try:
            made, read = self._take(request, what)
        except Exception as error:  # what is a fault of the device has been logged
            return pb.InferenceResponse(error=pb.TritonError(words_of(error)))
        if request.flags():
            self.cache_size.update()
        if request.flags() & START:
            return pb.InferenceResponse([pb.Tensor(OUTPUT, self.told)])
        given = {self.step_tensors.output: made, what: read}
        outputs = [pb.Tensor(name, array) for name, array in given.items() if array is not None]
        return pb.InferenceResponse(outputs)

    def _take(self, request: Any, what: str | None) -> tuple[Array | None, Array | None]:
        """Do what a request asks. A step makes something; `what` is read after it."""
        session, flags, tensors = request.correlation_id(), request.flags(), tensors_of(request)
        tick = tensors.pop(TICK, None)
        if not flags:
            if tick is None:
                raise ValueError(f"request has no input {TICK}")
            if what is not None:
                return self.sessions.step_and_read(session, int(tick[0]), tensors, what)
            return self.sessions.step(session, int(tick[0]), tensors), None
        if flags & START and session == ALL_SESSIONS:
            pass  # opens nothing: asks what this model is
        elif flags & START:
            self.sessions.open(session, tensors, 0 if tick is None else int(tick[0]))
        elif session == ALL_SESSIONS:
            self.sessions.close_all()
        else:
            self.sessions.close(session)
        return None, None

    def finalize(self) -> None:
        self.sessions.close_all()


class PublicModel(Model):
    """A decoupled model that clients talk to: an orchestrator and what runs its models."""

    orchestrator: Orchestrator[Any, Any]
    calls: BlsCalls
    replayed: ReplayedCalls | None = None  # what has sessions outlive their models, if anything
    tracer: Tracer | None = None
    parse: Callable[..., Any]  # a request's tensors, checked; ValueError in words for the client
    holds_sessions = True

    def initialize(self, args: dict[str, str]) -> None:
        super().initialize(args)
        if url := os.environ.get(TRACES_VARIABLE):
            self.tracer = self.orchestrator.tracer = Tracer(url, self.name)
        self.metrics = Metrics(self.name, self.orchestrator, self.replayed, self.calls.oldest_s)
        with_server = not parent_server.is_listening()
        self.calls.examination.start(self._leave, with_server=with_server)
        self.pace = Pace()
        self._stopping = threading.Event()
        self._watch = threading.Thread(target=self._watch_server, name="watch", daemon=True)
        self._watch.start()

    def identity(self, **steps: Any) -> Identity:
        """It loads few files itself and knows those of the whole export."""
        own = super().identity(**steps)
        return dataclasses.replace(own, files=read_hashes(self.folder))

    def limits(self) -> dict[str, Any]:
        """Of its sessions, as `Control` takes them."""
        return {
            "max_sessions": self.parameter("max_sessions", whole),
            "idle_timeout_s": self.parameter("idle_timeout_s", seconds),
            "unread_blocks": self.parameter("unread_blocks", whole),
        }

    def stateless(self, names: Sequence[str]) -> list[Identity]:
        """Of the models `names`, which can't be asked, those whose folders lie beside ours: not
        where Triton fetches each model alone. A plan of Triton's own backend has no identity;
        ValueError if it was built from files that are not of this export."""
        beside = {name: self.folder.parents[1] / name / self.folder.name for name in names}
        for name, folder in beside.items():
            if (path := manifest_path(folder / "model.plan")).is_file():
                check_sources([Manifest.load(path)], read_hashes(self.folder), name)
        return [
            dataclasses.replace(
                self.identity(),
                model=name,
                config=dataclasses.asdict(self.config_type.load(folder / self.config_type.FILE)),
                files={n: h for n, h in read_hashes(folder).items() if (folder / n).is_file()},
                num_steps=None,
            )
            for name, folder in beside.items()
            if (folder / HASHES).is_file()
        ]

    def _leave(self) -> None:
        """Not be ready, since no session can start: health tells the truth."""
        if parent_server.may_unload():
            pb.unload_model(self.name)

    def update_metrics(self) -> None:
        """Show what is counted; called by one thread."""
        self.metrics.update()

    def _watch_server(self) -> None:
        """Show what is counted. End the sessions when the server shuts down: it waits for every
        request, a held START, too."""
        while not self._stopping.wait(WATCH_S):
            try:
                self.update_metrics()
            except Exception:  # figures are no reason to miss the server's end
                logger.exception("%s: its metrics could not be shown", self.name)
            if self.orchestrator.sessions and self.calls.is_server_leaving():
                self.orchestrator.fail_all(SHUTTING_DOWN)
                return

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            time.sleep(self.pace.delay_s(request.correlation_id(), time.monotonic()))
            reply = TritonReply(request, is_traced=self.tracer is not None)
            start, end = bool(request.flags() & START), bool(request.flags() & END)
            session = request.correlation_id()
            try:
                parsed = self.parse(tensors_of(request), session=session, start=start, end=end)
            except Exception as error:
                if not isinstance(error, ValueError):
                    logger.exception("session %d: a request could not be read", session)
                self.orchestrator.refuse(session, words_of(error), reply, start=start, end=end)
            else:
                self.orchestrator.submit(parsed, reply)

    def finalize(self) -> None:
        self._stopping.set()
        self.calls.examination.stop()
        self.orchestrator.stop()
        self._watch.join()
        self.calls.stop()
        if self.tracer is not None:
            self.tracer.stop()
