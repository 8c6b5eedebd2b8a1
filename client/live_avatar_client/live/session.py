"""A live conversation: speech goes in whenever it comes, 25 frames come out every second."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from live_avatar_client.ledger import Ledger
from live_avatar_client.live.connection import Connection
from live_avatar_client.live.gate import Gate
from live_avatar_client.live.plan import FRAME_S, Plan, Shown
from live_avatar_client.live.speech import as_int16
from live_avatar_client.live.statistics import LiveStatistics, Percentiles
from live_avatar_client.protocol import DEFAULT_URL, MODEL, Array, AvatarError, Block, Wire
from live_avatar_client.requests import Image, condition, start_tensors
from live_avatar_client.sequence import FAREWELL_S, Sequence

KEPT_FRAMES = 12
"""Frames that wait for a viewer who is late, 0.48 s; of more the oldest are dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFrame:
    """40 ms of the conversation: picture and sound belong together."""

    index: int  # 0, 1, 2, … without a gap unless the viewer is late
    time_s: float  # when it is to be shown, `time.monotonic()`: index / 25 after the first one
    picture: Array  # uint8 RGB [H, W, 3]
    sound: Array  # int16 [640], 16 kHz
    is_speech: bool  # whether the sound is speech that was fed
    is_held: bool  # the picture before, because this one was late; its sound is silence
    generation: int  # how often the session had been interrupted when this sound was taken
    block: int  # the server's block of the picture
    timings_ms: Mapping[str, float]  # of that block


class LiveSession:
    """One avatar, alive from opening to closing; an asynchronous context manager, good once.

    `image`, `prompt`, `seed`, `options` are those of `Session`. `lead_s`: how long before its first
    frame is shown a block is sent; the server's time for a block, and room for its jitter.
    `gate_db`: sound below this level is no speech (microphones); None takes all for speech.
    `frames_per_block` and `look_ahead_frames` are the server's. `server_live` asks the server for
    its live mode. `timeout_s`: the longest silence of a server that owes an answer.

    All methods are for the event loop that opened the session. Raises ValueError for unfit
    arguments, AvatarError for what the server or the network did, RuntimeError for calls at the
    wrong moment.
    """

    def __init__(
        self,
        *,
        image: Image,
        url: str = DEFAULT_URL,
        prompt: str | None = None,
        seed: int | None = None,
        options: Mapping[str, Any] | None = None,
        lead_s: float = 0.20,
        gate_db: float | None = None,
        frames_per_block: int = 12,
        look_ahead_frames: int = 2,
        server_live: bool = False,
        model: str = MODEL,
        connect_timeout_s: float = 5.0,
        timeout_s: float = 20.0,
    ) -> None:
        if min(lead_s, connect_timeout_s, timeout_s) <= 0:
            raise ValueError(
                f"lead_s {lead_s}, connect_timeout_s {connect_timeout_s}, timeout_s {timeout_s}: "
                "expected seconds above 0"
            )
        if frames_per_block < 1 or look_ahead_frames < 0:
            raise ValueError(
                f"frames_per_block {frames_per_block}, look_ahead_frames {look_ahead_frames}: "
                "expected at least 1 and 0"
            )
        if server_live:
            options = {**(options or {}), "live": True}
        self._start = start_tensors(image, prompt=prompt, seed=seed, options=options)
        wire = Wire(model=model, want_latent=False)
        wire.check(self._start)
        self._sequence = Sequence(
            url=url, wire=wire, ledger=Ledger(max_ahead=0), timeout_s=timeout_s
        )
        self._sizes = (lead_s, frames_per_block, look_ahead_frames)
        self._connect_timeout_s = connect_timeout_s
        self._gate = None if gate_db is None else Gate(gate_db)
        self._plan: Plan | None = None
        self._connection: Connection | None = None
        self._opened_s = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._blocks: deque[Block] = deque()  # with frames that are being shown or will be
        self._ready: deque[LiveFrame] = deque()
        self._num_dropped = 0
        self._is_closed = False
        self._changed = asyncio.Event()  # frames are ready, or the session has ended

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect, send START and the silence of the first block; `frames` waits for its answer."""
        if self._connection is not None or self._is_closed:
            raise RuntimeError("this session was opened before; make a new one")
        self._opened_s = time.monotonic()
        url, model = self._sequence.url, self._sequence.wire.model
        self._connection = await Connection.open(url, model, self._connect_timeout_s)
        lead_s, frames_per_block, look_ahead = self._sizes
        self._plan = Plan(
            time.monotonic(),
            lead_s=lead_s,
            frames_per_block=frames_per_block,
            look_ahead=look_ahead,
        )
        self._post(self._start, start=True)
        self._advance()
        self._tasks = [asyncio.create_task(work) for work in (self._read(), self._keep_time())]

    def feed(self, audio: Array) -> None:
        """Let the avatar say mono 16 kHz audio, float32 in [-1, 1] or int16, of any length; it may
        come faster than it is spoken, or trickle. Never waits. ValueError for what is no audio, and
        for more than 600 s that would wait to be said."""
        plan, samples = self._alive(), as_int16(audio)
        if self._gate is not None:
            samples = self._gate.pass_on(samples)
        if len(samples):
            plan.feed(samples, time.monotonic())
        if self._gate is not None and not self._gate.is_open:
            plan.flush()
        self._advance()

    def flush(self) -> None:
        """Say that what was fed is whole. Speech shorter than a block then starts at once; without
        this it waits 0.15 s for more."""
        self._alive().flush()
        self._advance()

    def interrupt(self) -> int:
        """Drop what is not said yet, and mute what is under way, at once. The new generation: the
        frames that bear it show a face that has heard of the interruption."""
        generation = self._alive().interrupt()
        self._advance()
        return generation

    def set_prompt(self, prompt: str) -> None:
        """Go on under another prompt. A server that can't change it says so: `frames` raises."""
        self._alive()
        self._post(condition(prompt, None))

    async def frames(self) -> AsyncIterator[LiveFrame]:
        """Every frame at its time, 25 in a second, until the session is closed. AvatarError when it
        fails. One viewer at a time; one that is late gets what waits at once, `time_s` tells."""
        while True:
            while self._ready:
                yield self._ready.popleft()
            if self._is_closed:
                return
            if (error := self._sequence.error) is not None:
                raise error
            self._changed.clear()
            await self._changed.wait()

    def statistics(self) -> LiveStatistics:
        """What the conversation was like so far."""
        if self._plan is None:
            raise RuntimeError("the session is not open: use `async with LiveSession(...) as face`")
        counts, t0_s = self._plan.counts, self._plan.t0_s
        return LiveStatistics(
            first_frame_s=None if t0_s is None else t0_s - self._opened_s,
            frames=counts.frames,
            blocks=self._sequence.ledger.num_blocks,
            late=counts.late,
            held=counts.held,
            skipped=counts.skipped,
            dropped=self._num_dropped,
            interruptions=counts.interruptions,
            onset_s=Percentiles.of(counts.onset_s, counts.num_onsets),
            ahead_s=Percentiles.of(counts.ahead_s, counts.num_blocks),
            queued_s=self._plan.queued_s,
        )

    async def close(self) -> None:
        """End the session and free the server's place. Twice does no harm."""
        if self._is_closed:
            return
        self._is_closed = True
        self._changed.set()
        if self._connection is None:
            return
        self._fail(AvatarError("the session was closed"))
        reading, *others = self._tasks
        for task in others:
            task.cancel()
        await asyncio.wait([reading], timeout=FAREWELL_S)
        await self._connection.close()
        reading.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _alive(self) -> Plan:
        if self._plan is None:
            raise RuntimeError("the session is not open: use `async with LiveSession(...) as face`")
        if self._is_closed:
            raise RuntimeError("the session is closed; open a new LiveSession")
        if self._sequence.error is not None:
            raise self._sequence.error
        return self._plan

    def _post(
        self, tensors: Mapping[str, Array], *, start: bool = False, end: bool = False
    ) -> None:
        request = self._sequence.request(tensors, time.monotonic(), start=start, end=end)
        assert self._connection
        self._connection.send(request)

    def _fail(self, error: Exception) -> None:
        """Keep the first error, and leave the server."""
        if self._sequence.error is not None:
            return
        assert self._connection
        if self._sequence.fail(error):
            self._post({}, end=True)
        else:
            self._connection.cancel()
        self._changed.set()

    async def _keep_time(self) -> None:
        """Do what is due, sleep until the next thing is; whoever changes the plan does it, too."""
        assert self._plan
        while self._sequence.error is None:
            self._advance()
            now_s = time.monotonic()
            patience_s = self._sequence.patience_s(now_s)
            if patience_s is not None and patience_s <= 0:
                self._fail(_final(self._sequence.silent()))
            due_s = min(self._plan.next_start_s(now_s), now_s + FRAME_S)
            if self._plan.t0_s is not None:
                due_s = min(due_s, self._plan.next_tick_s)
            await asyncio.sleep(due_s - now_s)

    def _advance(self) -> None:
        """Send the blocks and show the frames whose time has come."""
        assert self._plan
        if self._sequence.error is not None:
            return
        while (sound := self._plan.start(time.monotonic())) is not None:
            self._post({"audio_int16": sound})
        while (shown := self._plan.show(time.monotonic())) is not None:
            self._ready.append(self._frame(shown))
        while len(self._ready) > KEPT_FRAMES:
            self._ready.popleft()
            self._num_dropped += 1
        if self._ready:
            self._changed.set()

    def _frame(self, shown: Shown) -> LiveFrame:
        """The picture of a tick beside its sound; pictures that have passed are let go."""
        while shown.frame >= self._blocks[0].frame_index + len(self._blocks[0].frames):
            self._blocks.popleft()
        block = self._blocks[0]
        return LiveFrame(
            index=shown.tick,
            time_s=shown.time_s,
            picture=block.frames[shown.frame - block.frame_index],
            sound=shown.sent.sound,
            is_speech=shown.sent.is_speech,
            is_held=shown.is_held,
            generation=shown.sent.generation,
            block=block.block,
            timings_ms=block.timings_ms,
        )

    async def _read(self) -> None:
        """Enter what the server says, until it hangs up."""
        assert self._connection
        try:
            async for message in self._connection.messages():
                self._enter(message)
                if self._sequence.ledger.is_complete:
                    return
            self._sequence.is_gone = True
            self._fail(_final(self._sequence.lost("ended the stream")))
        except AvatarError as error:
            self._sequence.is_gone = True
            self._fail(_final(error))

    def _enter(self, message: Any) -> None:
        assert self._plan
        try:
            self._sequence.enter(message, time.perf_counter(), time.monotonic())
            while self._sequence.ledger.blocks:
                block = self._sequence.ledger.take()
                self._plan.received(len(block.frames), time.monotonic())
                self._blocks.append(block)
                self._advance()
        except (AvatarError, ValueError) as error:
            if self._sequence.is_gone and self._connection:
                self._connection.cancel()  # a server that is shutting down waits for a held START
            self._fail(_final(error))


def _final(error: Exception) -> AvatarError:
    """The error that ends a conversation, with the way back."""
    return AvatarError(f"{error}; this conversation is over, open a new LiveSession to go on")
