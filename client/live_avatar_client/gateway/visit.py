"""One visitor, from the opening of its WebSocket to its end, which ends everything else, too."""

import asyncio
import functools
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from live_avatar_client.gateway import messages, speech
from live_avatar_client.gateway.conversation import Conversation
from live_avatar_client.gateway.figures import Figures
from live_avatar_client.gateway.film import Film
from live_avatar_client.gateway.lobby import Lobby
from live_avatar_client.gateway.outbox import Outbox, SlowReaderError
from live_avatar_client.gateway.outlets import Mp4Outlet, Outlet
from live_avatar_client.gateway.settings import Settings
from live_avatar_client.gateway.webrtc import WebRtcOutlet
from live_avatar_client.protocol import AvatarError
from live_avatar_client.rolling import ROLLING_MODEL

_log = logging.getLogger(__name__)
_START_TIMEOUT_S = 60.0
_AWAY_S = 120.0  # so long a server may take to come back
_BEAT_S, _FIGURES_S = 1.0, 0.5
_HOLD_S = 0.3  # silence between two words is not yet the end of speaking
_FULL = "sessions of this server are in use"
_RETRY_S = 1.0

OpenFace = Callable[..., AbstractAsyncContextManager[Any]]
"""`LiveSession`, or a stand-in."""


class VisitEndError(Exception):
    """The visit is over, for a reason that the visitor may read."""


_TOLD = VisitEndError | ValueError | AvatarError | SlowReaderError | ConnectionError


class Visit:
    """`portraits` are the shipped pictures by name."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        *,
        settings: Settings,
        lobby: Lobby,
        open_face: OpenFace,
        portraits: dict[str, Path],
    ) -> None:
        self.name = secrets.token_urlsafe(16)
        """Known to this visitor alone: whoever knows it may upload for it."""
        self._socket, self._settings, self._lobby = socket, settings, lobby
        self._open_face, self._portraits = open_face, portraits
        self._outbox = Outbox(socket)
        self._start: asyncio.Future[messages.Start] = asyncio.get_running_loop().create_future()
        self._uploaded: bytes | None = None
        self.is_uploading = False
        self._face: Any = None
        self._conversation: Conversation | None = None
        self._outlet: Outlet | None = None
        self._figures = Figures()
        self._closing: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Serve until one side ends it; then say why, where somebody is left to hear it."""
        parts = (self._outbox.pump(), self._beat(), self._receive(), self._live(), self._closed())
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            why = _words(next(iter(done)))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        _log.info("visit over: %s", why or "the page is gone")
        with suppress(ConnectionError, TimeoutError, RuntimeError):
            if why:
                await asyncio.wait_for(self._socket.send_json({"type": "ended", "why": why}), 1.0)
            await asyncio.wait_for(self._socket.close(), 1.0)

    def end(self, why: str) -> None:
        if not self._closing.done():
            self._closing.set_result(why)

    def take(self, what: str, content: bytes) -> None:
        """A "portrait" for the start, or "sound" to be said; ValueError before there is a face."""
        if what == "portrait":
            self._uploaded = content
        elif self._conversation is None:
            raise ValueError("there is no face yet that could say it")
        else:
            self._conversation.play(content)

    async def _closed(self) -> None:
        raise VisitEndError(await self._closing)

    async def _beat(self) -> None:
        """Show the page that somebody is here."""
        while True:
            await asyncio.sleep(_BEAT_S)
            self._outbox.post("beat")

    async def _receive(self) -> None:
        """Take the page's messages until its socket is closed."""
        self._outbox.post(
            "hello",
            visit=self.name,
            can_say=speech.can_speak(self._settings.say_program),
            ice_servers=list(self._settings.ice),
        )
        async for message in self._socket:
            if message.type is WSMsgType.TEXT:
                await self._obey(messages.parsed(message.data))
            elif message.type is WSMsgType.BINARY and self._conversation is not None:
                self._conversation.heard_samples(message.data)

    async def _obey(self, message: messages.Message) -> None:
        match message:
            case messages.Start():
                if not self._start.done():
                    self._start.set_result(message)
            case messages.End():
                raise VisitEndError("you ended the session")
            case _ if self._conversation is None:
                pass  # it was on its way when the server refused a face, or not yet had one
            case messages.Offer(sdp=sdp):
                if isinstance(self._outlet, WebRtcOutlet):
                    self._outbox.post("answer", sdp=await self._outlet.answer(sdp))
            case messages.Transport(transport=transport):
                await self._change_outlet(transport)
            case messages.Microphone(on=on, rate=rate):
                self._conversation.microphone_is_open, self._conversation.rate = on, rate
            case messages.Say(text=text):
                self._conversation.say(text)
            case messages.Interrupt():
                self._conversation.interrupt()
            case messages.Prompt(text=text):
                await self._change_prompt(text)

    async def _live(self) -> None:
        """Wait for START and for a place, then show the face."""
        try:
            start = await asyncio.wait_for(self._start, _START_TIMEOUT_S)
        except TimeoutError:
            raise VisitEndError(f"nothing was started within {_START_TIMEOUT_S:g} s") from None
        face = self._film(start) if start.show == "film" else self._face_of(start)
        async with self._lobby.place(self._tell_position):
            while True:
                try:
                    await self._show(start, face)
                    raise VisitEndError("the face has ended")
                except AvatarError as error:
                    if _FULL not in str(error):
                        raise
                self._tell_position(1)  # programs other than this gateway hold its sessions
                await asyncio.sleep(_RETRY_S)

    def _picture(self, start: messages.Start) -> bytes | Path:
        if start.portrait is None:
            if self._uploaded is None:
                raise ValueError("start names no portrait, and none was uploaded")
            return self._uploaded
        if start.portrait not in self._portraits:
            raise ValueError(f"there is no portrait named {start.portrait[:80]!r}")
        return self._portraits[start.portrait]  # a path, which the session reads

    def _tell_position(self, position: int) -> None:
        with suppress(SlowReaderError):
            self._outbox.post("queue", position=position, places=self._lobby.num_places)

    def _face_of(self, start: messages.Start) -> OpenFace:
        return functools.partial(
            self._open_face,
            url=self._settings.url,
            tls=self._settings.server_tls,
            model=self._settings.model,
            image=self._picture(start),
            prompt=start.prompt or None,
            seed=start.seed,
            reconnect=True,
            give_up_s=_AWAY_S,
        )

    def _film(self, start: messages.Start) -> OpenFace:
        return functools.partial(
            Film,
            url=self._settings.url,
            tls=self._settings.server_tls,
            model=ROLLING_MODEL,
            prompt=start.prompt or None,
            seed=start.seed,
        )

    async def _show(self, start: messages.Start, open_face: OpenFace) -> None:
        async with open_face() as self._face:
            self._conversation = Conversation(
                self._face, self._settings.say_program, self._tell_failure
            )
            await self._change_outlet(start.transport)
            telling = asyncio.create_task(self._tell_figures())
            try:
                await self._show_frames()
            finally:
                telling.cancel()
                await self._conversation.close()
                if self._outlet is not None:
                    await self._outlet.close()
                self._face = self._conversation = self._outlet = None

    async def _show_frames(self) -> None:
        told: tuple[str, str | None] | None = None
        block, spoke_s = -1, -1.0
        async for frame in self._face.frames():
            assert self._outlet is not None
            if self._settings.mark is not None:
                frame = replace(frame, picture=self._settings.mark.put(frame.picture))
            await self._outlet.show(frame)
            now_s = time.monotonic()
            self._figures.sent(frame.time_s, now_s)
            if frame.is_speech:
                spoke_s = now_s
            if told != (told := self._state(now_s - spoke_s < _HOLD_S)):
                self._outbox.post("state", state=told[0], source=told[1])
            if frame.block != block:
                block = frame.block
                timings = {name: round(ms, 1) for name, ms in frame.timings_ms.items()}
                self._outbox.post("block", block=block, timings_ms=timings)

    def _state(self, speaks: bool) -> tuple[str, str | None]:
        """What the face does, and whose sound it gets."""
        source = None if self._conversation is None else self._conversation.source
        if self._face.is_lost:
            return "away", source
        if speaks:
            return "speaking", source
        return "listening" if source == "microphone" else "idle", source

    async def _change_prompt(self, text: str) -> None:
        try:
            await self._face.set_prompt(text)
        except AvatarError as error:  # the talk goes on, unless `frames` says otherwise
            self._tell_failure(str(error))

    async def _change_outlet(self, transport: str) -> None:
        assert self._conversation is not None
        old = self._outlet
        if transport == "mp4":
            self._outlet = Mp4Outlet(self._outbox)
        else:
            self._outlet = WebRtcOutlet(self._settings.ice, self._conversation.heard)
        self._outbox.post("admitted", transport=transport)
        if old is not None:
            await old.close()

    async def _tell_figures(self) -> None:
        while True:
            await asyncio.sleep(_FIGURES_S)
            seen = self._face.statistics()
            if self._face.is_lost and not seen.frames:
                self._tell_position(1)  # programs other than this gateway hold its sessions
            with suppress(SlowReaderError):  # whoever sends frames says so
                self._outbox.post("statistics", **self._figures.told(seen))

    def _tell_failure(self, words: str) -> None:
        with suppress(SlowReaderError):
            self._outbox.post("error", words=words)


def _words(task: asyncio.Task[None]) -> str:
    """Why this part of a visit is over, "" where the page has left."""
    error = task.exception()
    if error is None or (isinstance(error, ConnectionError) and not str(error)):
        return ""
    if not isinstance(error, _TOLD):
        _log.error("a visit failed", exc_info=error)
        return "the gateway has failed; its log says why"
    return str(error)
