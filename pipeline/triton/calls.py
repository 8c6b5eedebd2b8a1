"""Calls of the other models of the repository, through BLS.

A session's id is the correlation id of every request; START and END are Triton's sequence flags.
"""

import dataclasses
import itertools
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import triton_python_backend_utils as pb

from pipeline.engines.base import Array, Arrays
from pipeline.engines.device_sessions import OutOfOrder
from pipeline.identity.examination import NOT_READY, Examination
from pipeline.identity.holders import OUTPUT, Identity
from pipeline.sessions.calls import ModelLost, in_turn
from pipeline.triton.callers import credentials
from pipeline.triton.processes import Processes

logger = logging.getLogger(__name__)

START = pb.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START
END = pb.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END
TICK = "tick"
"""The input that numbers what a session does at a model that holds it, from 0."""
FIRST = {TICK: np.zeros(1, np.int64)}
"""Where nothing is to be said: Triton sends no request without an input."""
ALL_SESSIONS = 0
"""No session has this id; END of it closes all that a stage or the decoder holds."""


class StepTensors(NamedTuple):
    """Names of what a step of a model that holds sessions takes and gives."""

    output: str  # what a step gives
    held: str | None = None
    """What may be read of a session after a step: an output that is made if it is asked for."""


class BlsCalls:
    """`pipeline.sessions.calls.Calls` through BLS: `identity` is what the public model is,
    `holders` are those that hold sessions, `stateless` those of the others that are known."""

    def __init__(
        self, identity: Identity, holders: Mapping[str, StepTensors], stateless: Sequence[Identity]
    ) -> None:
        self.holders = holders
        self.examination = Examination(identity, list(holders), self.ask, stateless)
        self._pool = ThreadPoolExecutor(
            identity.max_sessions * len(holders), thread_name_prefix="open or close"
        )
        self._processes = Processes(self.is_loaded)
        self._called: set[str] = set(holders)
        self._under_way: dict[int, tuple[str, float]] = {}  # model and begin of each call
        self._numbers = itertools.count()
        self._first_start = threading.Lock()
        self._is_first_start = True

    def ask(self, model: str) -> Identity:
        """What a holder is; RuntimeError if it can't be reached."""
        return self._start(model, FIRST, ALL_SESSIONS)

    def steps_of(self, model: str) -> tuple[int, ...] | None:
        """Denoising steps that a stage owns; None: any. RuntimeError if it can't be reached."""
        return self.ask(model).steps

    def is_server_leaving(self) -> bool:
        """Whether the server takes no calls any more."""
        try:
            self.ask(next(iter(self.holders)))
        except Exception as error:
            return NOT_READY in str(error)
        return False

    def ready(self) -> None:
        """RuntimeError if the models don't belong together. Before the first session all are freed:
        a process before us may have died with sessions open."""
        self.examination.await_agreement()
        with self._first_start:
            if self._is_first_start:
                self.close(ALL_SESSIONS)
                self._is_first_start = False

    def is_loaded(self, model: str) -> bool:
        return bool(pb.is_model_ready(model))

    def open(self, session: int, tensors: Mapping[str, Arrays]) -> None:
        """Open a session at every model that has tensors, side by side."""
        opened = [
            self._pool.submit(self._start, model, given or FIRST, session)
            for model, given in tensors.items()
        ]
        for future in opened:
            future.exception()  # all must have ended before the first failure is told
        self.examination.check(future.result() for future in opened)

    def reopen(self, model: str, session: int, tensors: Arrays, tick: int) -> None:
        if not self.is_loaded(model):  # each try in vain would leave the tensors in shared memory
            raise ModelLost(f"{model} is not loaded")
        self._start(model, {TICK: np.array([tick], np.int64), **tensors}, session)

    def _start(self, model: str, inputs: Arrays, session: int) -> Identity:
        """Open a session at a holder; what that is."""
        question = {"correlation_id": session, "flags": START}
        identity = Identity.from_json(
            self.call(model, inputs, [OUTPUT], **question)[OUTPUT].tobytes()
        )
        self._processes.seen(model, identity.process)
        if (steps := inputs.get("steps")) is not None:  # it was told which are this session's
            identity = dataclasses.replace(identity, steps=tuple(steps.tolist()))
        return identity

    def step(self, model: str, session: int, tick: int, inputs: Arrays) -> Array | None:
        output = self.holders[model].output
        return self._step(model, session, tick, inputs, [output]).get(output)

    def step_and_read(
        self, model: str, session: int, tick: int, inputs: Arrays, what: str
    ) -> tuple[Array | None, Array]:
        output = self.holders[model].output
        found = self._step(model, session, tick, inputs, [output, what])
        return found.get(output), found[what]

    def close(self, session: int) -> None:
        end_of = partial(self.call, outputs=[], correlation_id=session, flags=END)
        ends = [self._pool.submit(end_of, model, FIRST) for model in self.holders]
        for end in ends:
            error = end.exception()
            if error is not None and not isinstance(error, ModelLost):
                logger.warning("session %d could not be closed: %s", session, error)

    def stop(self) -> None:
        self._pool.shutdown()
        self._processes.stop()

    def _step(
        self, model: str, session: int, tick: int, inputs: Arrays, outputs: list[str]
    ) -> dict[str, Array]:
        numbered = {TICK: np.array([tick], np.int64), **inputs}
        step = partial(self.call, model, numbered, outputs, correlation_id=session, flags=0)
        return in_turn(step)

    def call(
        self, model: str, inputs: Arrays, outputs: list[str], **sequence: int
    ) -> dict[str, Array]:
        """As in `Calls`; `sequence` says which session a model that holds some is asked about.
        Answers are to be on the host: plans' are on the GPU else, where numpy cannot read them."""
        request = pb.InferenceRequest(
            model_name=model,
            requested_output_names=outputs,
            inputs=[pb.Tensor(name, array) for name, array in inputs.items()],
            # Here, as Triton names this kind of memory once the model's file is imported.
            preferred_memory=pb.PreferredMemory(pb.TRITONSERVER_MEMORY_CPU, 0),
            parameters=credentials(),
            **sequence,
        )
        if model in self.holders:
            return self._processes.call(model, partial(self._exec, model, request))
        return self._exec(model, request)

    def _exec(self, model: str, request: Any) -> dict[str, Array]:
        number = next(self._numbers)
        self._under_way[number] = (model, time.monotonic())
        try:
            return _outputs(model, request.exec())
        finally:
            del self._under_way[number]

    def oldest_s(self) -> dict[str, float]:
        """For how many seconds the oldest call to each model has been under way, 0 if there is
        none."""
        ages, now_s = dict.fromkeys(self._called, 0.0), time.monotonic()
        for model, since_s in list(self._under_way.values()):
            ages[model] = max(ages.get(model, 0.0), now_s - since_s)
        self._called |= ages.keys()
        return ages


def tensors_of(request: Any) -> dict[str, Array]:
    """A request's inputs by name."""
    return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}


def _outputs(model: str, response: Any) -> dict[str, Array]:
    if response.has_error():
        words = response.error().message()
        if NOT_READY in words:
            words = f"the server is starting or shutting down ({words})"
        is_lost = any(mark in words for mark in ModelLost.MARKS) and NOT_READY not in words
        kind = ModelLost if is_lost else RuntimeError
        raise (OutOfOrder if OutOfOrder.MARK in words else kind)(f"{model}: {words}")
    return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}
