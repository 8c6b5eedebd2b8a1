"""A live conversation: speech goes in whenever it comes, 25 frames come out every second."""

import asyncio
import functools
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any, Self

from live_avatar_client.ledger import Ledger
from live_avatar_client.live.connection import Connection
from live_avatar_client.live.exchange import LiveExchange
from live_avatar_client.live.frame import LiveFrame, Pictures
from live_avatar_client.live.gate import Gate
from live_avatar_client.live.mirror import SILENCE
from live_avatar_client.live.plan import FRAME_S, Plan
from live_avatar_client.live.speech import as_int16
from live_avatar_client.live.statistics import LiveStatistics, Percentiles
from live_avatar_client.protocol import DEFAULT_URL, MODEL, Array, Block, Wire
from live_avatar_client.requests import Image, condition, start_tensors
from live_avatar_client.resume import GIVE_UP_S, Tries
from live_avatar_client.sequence import Sequence
from live_avatar_client.tls import Tls

KEPT_FRAMES = 12
"""Frames that wait for a viewer who is late, 0.48 s; of more the oldest are dropped."""


class LiveSession:
    """One avatar, alive from opening to closing; an asynchronous context manager, good once.

    `image`, `prompt`, `seed`, `options` are those of `Session`. `lead_s`: how long before its first
    frame is shown a block is sent, at least: while blocks take longer, it is longer by itself.
    `gate_db`: sound below this level is no speech (microphones); None takes all for speech.
    `look_ahead_frames`: sound behind a block that it waits for, 0 to the preset's; with less, a
    trickle is heard sooner, and lips know less of what comes. `frames_per_block` is the server's.
    `cuts`: idle frames may be left out so that speech or silence comes sooner; without, every frame
    is shown.
    `timeout_s`: the longest silence of a server that owes an answer. `tls`: what a server with TLS
    is to be trusted by. `reconnect`: when the server is lost or full, the face stands still, and
    speech waits, until another try succeeds, for up to `give_up_s`; the picture then jumps once to
    that of `image`.

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
        lead_s: float = 0.4,
        gate_db: float | None = None,
        frames_per_block: int = 12,
        look_ahead_frames: int = 2,
        cuts: bool = True,
        model: str = MODEL,
        reconnect: bool = False,
        give_up_s: float = GIVE_UP_S,
        connect_timeout_s: float = 5.0,
        timeout_s: float = 20.0,
        tls: Tls | None = None,
    ) -> None:
        seconds = {
            "lead_s": lead_s,
            "give_up_s": give_up_s,
            "connect_timeout_s": connect_timeout_s,
            "timeout_s": timeout_s,
        }
        if min(seconds.values()) <= 0:
            given = ", ".join(f"{name} {value}" for name, value in seconds.items())
            raise ValueError(f"{given}: expected seconds above 0")
        if frames_per_block < 1 or look_ahead_frames < 0:
            raise ValueError(
                f"frames_per_block {frames_per_block}, look_ahead_frames {look_ahead_frames}: "
                "expected at least 1 and 0"
            )
        live = {"live": True, "look_ahead_frames": look_ahead_frames, **(options or {})}
        self._start = start_tensors(image, prompt=prompt, seed=seed, options=live)
        wire = Wire(model=model, want_latent=False)
        wire.check(self._start)
        ledger = Ledger(max_ahead=0)  # the plan says how much is sent
        self._sequence = Sequence(url=url, wire=wire, ledger=ledger, timeout_s=timeout_s)
        self._make_plan = functools.partial(
            Plan,
            lead_s=lead_s,
            frames_per_block=frames_per_block,
            look_ahead=look_ahead_frames,
            cuts=cuts,
        )
        self._connect_timeout_s, self._tls = connect_timeout_s, tls
        self._tries = Tries(give_up_s) if reconnect else None
        self._gate = None if gate_db is None else Gate(gate_db)
        self._plan: Plan | None = None
        self._exchange: LiveExchange | None = None
        self._clock: asyncio.Task[None] | None = None
        self._opened_s: float | None = None
        self._pictures = Pictures()
        self._ready: deque[LiveFrame] = deque()
        self._num_dropped = 0
        self._is_closed = self._is_lost = False
        self._changed = asyncio.Event()  # frames are ready, or the session has ended

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect, send START and the silence of the first block; `frames` waits for its answer."""
        if self._opened_s is not None:
            raise RuntimeError("this session was opened before; make a new one")
        self._opened_s = time.monotonic()
        url, model = self._sequence.url, self._sequence.wire.model
        connection = Connection()
        await connection.open(url, model, self._connect_timeout_s, self._tls)
        self._exchange = LiveExchange(
            sequence=self._sequence,
            connection=connection,
            connect_timeout_s=self._connect_timeout_s,
            tls=self._tls,
            tries=self._tries,
            on_block=self._on_block,
            on_lost=self._plan_anew,
            on_anew=self._start_anew,
            on_end=self._changed.set,
        )
        self._plan = self._make_plan(time.monotonic())
        self._exchange.post(self._start, start=True)
        self._advance()
        self._clock = asyncio.create_task(self._keep_time())

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
        self._ready = deque(replace(f, sound=SILENCE, is_speech=False) for f in self._ready)
        self._advance()
        return generation

    async def said(self) -> None:
        """Return when all that was fed is said and shown, or was interrupted. AvatarError when the
        session fails before."""
        while self.is_speaking:
            await asyncio.sleep(FRAME_S)
        if not self._is_closed:
            self._alive()

    @property
    def is_speaking(self) -> bool:
        """Whether speech waits to be said, or is still to be shown; False after the end."""
        is_alive = not self._is_closed and self._sequence.error is None
        return is_alive and not self._opened().is_silent

    @property
    def is_lost(self) -> bool:
        """With `reconnect`: whether the server is gone, or full, and no block of the next one has
        come yet."""
        return self._is_lost

    async def set_prompt(self, prompt: str) -> None:
        """Go on under another prompt. AvatarError where the server can't; the talk goes on then."""
        self._alive()
        assert self._exchange
        told = condition(prompt, None)
        if not self._exchange.is_away:
            await self._exchange.ask(told)
        self._start |= told  # also for a server that comes after this one

    async def frames(self) -> AsyncIterator[LiveFrame]:
        """Every frame at its time, 25 in a second, until the session is closed. AvatarError when it
        fails. One viewer at a time; one that is late gets what waits at once, `time_s` tells."""
        while True:
            while self._ready:
                yield self._ready.popleft()
            if self._is_closed:
                return
            self._alive()
            self._changed.clear()
            await self._changed.wait()

    def statistics(self) -> LiveStatistics:
        """What the conversation was like so far, also after its end."""
        plan = self._opened()
        assert self._opened_s is not None
        counts, t0_s = plan.counts, plan.t0_s
        return LiveStatistics(
            first_frame_s=None if t0_s is None else t0_s - self._opened_s,
            frames=counts.frames,
            blocks=self._sequence.ledger.num_blocks,
            late=counts.late,
            held=counts.held,
            skipped=counts.skipped,
            made_again=counts.made_again,
            dropped=self._num_dropped,
            interruptions=counts.interruptions,
            onset_s=Percentiles.of(counts.onset_s, counts.num_onsets),
            ahead_s=Percentiles.of(counts.ahead_s, counts.num_blocks),
            queued_s=plan.queued_s,
            lead_s=plan.lead_s,
        )

    async def close(self) -> None:
        """End the session and free the server's place. Twice does no harm."""
        if self._is_closed:
            return
        self._is_closed = True
        self._changed.set()
        if self._clock is not None:
            self._clock.cancel()
            await asyncio.gather(self._clock, return_exceptions=True)
        if self._exchange is not None:
            await self._exchange.close()

    def _opened(self) -> Plan:
        if self._plan is None:
            raise RuntimeError("the session is not open: use `async with LiveSession(...) as face`")
        return self._plan

    def _alive(self) -> Plan:
        plan = self._opened()
        if self._is_closed:
            raise RuntimeError("the session is closed: open a new one")
        if self._sequence.error is not None:
            raise self._sequence.error
        return plan

    async def _keep_time(self) -> None:
        """Do what is due, and sleep until the next thing is."""
        assert self._plan
        assert self._exchange
        while self._sequence.error is None:
            self._advance()
            now_s = time.monotonic()
            self._exchange.check_patience(now_s)
            due_s = min(self._plan.next_start_s(now_s), now_s + FRAME_S)
            if self._plan.t0_s is not None:
                due_s = min(due_s, self._plan.next_tick_s)
            await asyncio.sleep(due_s - now_s)

    def _on_block(self, block: Block) -> None:
        assert self._plan
        assert self._exchange
        self._is_lost, is_old = False, self._exchange.is_old(block)
        self._plan.received(len(block.frames), time.monotonic(), is_old=is_old)
        self._pictures.append(block)
        self._advance()

    def _plan_anew(self) -> None:
        assert self._plan
        self._is_lost = True
        self._plan.begin_anew()

    def _start_anew(self) -> None:
        assert self._exchange
        self._exchange.post(self._start, start=True)
        self._advance()

    def _advance(self) -> None:
        """Send the blocks and hand out the frames whose time has come."""
        assert self._plan
        assert self._exchange
        if self._sequence.error is not None:
            return
        while not self._exchange.is_away and (order := self._plan.start(time.monotonic())):
            self._exchange.order(order)
        while (shown := self._plan.show(time.monotonic())) is not None:
            self._ready.append(self._pictures.frame(shown))
        while len(self._ready) > KEPT_FRAMES:
            self._ready.popleft()
            self._num_dropped += 1
        if self._ready:
            self._changed.set()
