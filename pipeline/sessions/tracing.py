"""What became of a block, as OpenTelemetry spans: one for the block, below it one for each model.

They are children of the span that Triton has made of the client's request. They are sent to a
collector as JSON (OTLP over HTTP), by a thread of their own: nobody waits for a collector, and what
it does not take is dropped.
"""

import json
import logging
import queue
import secrets
import threading
import time
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)

MOST_WAITING = 4096
"""Blocks that wait for being sent; those beyond are dropped."""
SEND_S, TIMEOUT_S = 1.0, 5.0
INTERNAL = 1  # kind of a span that is neither a client's nor a server's


class Pass(NamedTuple):
    """A block at a station, on the clock of `time.perf_counter`."""

    station: str
    began_s: float
    ended_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTrace:
    """A block from its sound to its answer."""

    parent: str
    """Of the request: `traceparent` of W3C Trace Context, 00-<trace>-<span>-<flags>."""
    session: int
    block: int
    passes: tuple[Pass, ...]
    ended_s: float

    def spans(self, epoch_ns: int) -> list[dict[str, Any]]:
        """As OTLP has them; `epoch_ns` is when `time.perf_counter` was 0."""
        _, trace, request, _ = self.parent.split("-")
        own = secrets.token_hex(8)

        def span(name: str, number: str, parent: str, began_s: float, ended_s: float) -> Any:
            return {
                "traceId": trace,
                "spanId": number,
                "parentSpanId": parent,
                "name": name,
                "kind": INTERNAL,
                "startTimeUnixNano": str(epoch_ns + int(1e9 * began_s)),
                "endTimeUnixNano": str(epoch_ns + int(1e9 * ended_s)),
            }

        whole = span("block", own, request, self.passes[0].began_s, self.ended_s)
        figures = {"avatar.session": self.session, "avatar.block": self.block}
        whole["attributes"] = [
            {"key": key, "value": {"intValue": str(value)}} for key, value in figures.items()
        ]
        parts = (span(p.station, secrets.token_hex(8), own, *p[1:]) for p in self.passes)
        return [whole, *parts]


class Tracer:
    """Sends traces to `url`, such as http://127.0.0.1:4318/v1/traces, until `stop`."""

    def __init__(self, url: str, service: str) -> None:
        """ValueError if `url` is no address of the web."""
        if not url.startswith(("http://", "https://")):
            raise ValueError(
                f"the address for traces is {url!r}, wanted http://HOST:PORT/v1/traces"
            )
        self._url, self._service = url, service
        self._epoch_ns = time.time_ns() - time.perf_counter_ns()
        self._waiting: queue.Queue[BlockTrace | None] = queue.Queue(MOST_WAITING)
        # A collector is asked directly, whatever proxies the environment names for downloads.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def record(self, trace: BlockTrace) -> None:
        """Have a trace sent; never waits, never raises."""
        try:
            self._waiting.put_nowait(trace)
        except queue.Full:
            logger.warning("a trace is dropped: %d wait for the collector", MOST_WAITING)

    def stop(self) -> None:
        """Send what waits, and end the thread."""
        try:
            self._waiting.put(None, timeout=TIMEOUT_S)
        except queue.Full:
            return  # the collector hangs; the thread does not keep the process
        self._thread.join(2 * TIMEOUT_S)

    def _run(self) -> None:
        is_last = False
        while not is_last:
            traces = [self._waiting.get()]
            time.sleep(0 if traces[0] is None else SEND_S)  # others will come
            while not self._waiting.empty():
                traces.append(self._waiting.get())
            is_last = None in traces
            self._send(trace for trace in traces if trace is not None)

    def _send(self, traces: Iterable[BlockTrace]) -> None:
        spans = [span for trace in traces for span in trace.spans(self._epoch_ns)]
        if not spans:
            return
        name = {"key": "service.name", "value": {"stringValue": self._service}}
        scopes = [{"scope": {"name": __name__}, "spans": spans}]
        body = {"resourceSpans": [{"resource": {"attributes": [name]}, "scopeSpans": scopes}]}
        request = urllib.request.Request(
            self._url, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            self._opener.open(request, timeout=TIMEOUT_S).close()
        except (OSError, ValueError) as error:
            logger.warning("%d spans are lost, no collector takes them: %s", len(spans), error)
