"""The gateway's web application: page, portraits, health, uploads, and the WebSocket of a visit."""

import asyncio
import logging
import time
from pathlib import Path

from aiohttp import web

from live_avatar_client.gateway.doors import check_origin
from live_avatar_client.gateway.lobby import Lobby
from live_avatar_client.gateway.messages import MAX_MESSAGE_BYTES, SHOWS
from live_avatar_client.gateway.settings import MAX_UPLOAD_BYTES, Settings
from live_avatar_client.gateway.tokens import check_token
from live_avatar_client.gateway.visit import OpenFace, Visit
from live_avatar_client.protocol import AvatarError
from live_avatar_client.rolling import ROLLING_MODEL
from live_avatar_client.stream import check_health

_log = logging.getLogger(__name__)
_PAGE = Path(__file__).with_name("page")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_HEARTBEAT_S = 2.0
"""After so long without a word from a page it is asked for one, and has half of that again."""
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' blob: data:; "
        "media-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "Permissions-Policy": "microphone=(self), camera=()",
    "Referrer-Policy": "no-referrer",  # the address may hold a token
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class Gateway:
    """All visits of one gateway. `open_face` makes their sessions: `LiveSession`, or a stand-in."""

    def __init__(self, settings: Settings, num_places: int, open_face: OpenFace) -> None:
        self.settings, self._open_face = settings, open_face
        self.lobby = Lobby(num_places, settings.max_waiting)
        self._visits: dict[str, Visit] = {}
        self._portraits = _portraits(settings.portraits)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_UPLOAD_BYTES)
        app.on_response_prepare.append(_add_headers)
        app.on_shutdown.append(self._shut_down)
        app.router.add_get("/", self._index)
        app.router.add_static("/page", _PAGE)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/portraits", self._list_portraits)
        app.router.add_get("/portraits/{name}", self._portrait)
        app.router.add_get("/session", self._session)
        app.router.add_post("/visits/{visit}/{what:portrait|sound}", self._upload)
        return app

    async def _index(self, _: web.Request) -> web.FileResponse:
        return web.FileResponse(_PAGE / "index.html")

    async def _health(self, _: web.Request) -> web.Response:
        """200 while the server has a model that is ready, else 503 and why."""
        words = {
            show: await asyncio.to_thread(_words, self.settings, model)
            for show, model in (("face", self.settings.model), ("film", ROLLING_MODEL))
        }
        shows = [show for show in SHOWS if not words[show]]
        told = {"ready": bool(shows), "words": "" if shows else words["face"], "shows": shows}
        told |= {"places": self.lobby.num_places, "inside": self.lobby.num_inside}
        told |= {"waiting": self.lobby.num_waiting}
        return web.json_response(told, status=200 if shows else 503)

    async def _list_portraits(self, _: web.Request) -> web.Response:
        return web.json_response(sorted(self._portraits))

    async def _portrait(self, request: web.Request) -> web.FileResponse:
        path = self._portraits.get(request.match_info["name"])
        if path is None:
            raise web.HTTPNotFound
        return web.FileResponse(path)

    async def _upload(self, request: web.Request) -> web.Response:
        """A picture or a sound file as the body; only who has a visit's name may hand it in."""
        visit = self._visits.get(request.match_info["visit"])
        if visit is None:
            raise web.HTTPNotFound
        if visit.is_uploading:
            return _refused("another upload is under way")
        visit.is_uploading = True
        try:
            visit.take(request.match_info["what"], await request.read())
        except ValueError as error:
            return _refused(str(error))
        finally:
            visit.is_uploading = False
        return web.json_response({})

    async def _session(self, request: web.Request) -> web.WebSocketResponse:
        settings = self.settings
        origin = request.headers.get("Origin")
        try:
            check_origin(origin, request.host, settings.host, settings.origins)
        except PermissionError as error:
            raise web.HTTPForbidden(text=f"{error}\n") from None
        socket = web.WebSocketResponse(
            heartbeat=_HEARTBEAT_S, max_msg_size=MAX_MESSAGE_BYTES, timeout=1.0, compress=False
        )
        await socket.prepare(request)
        try:
            if settings.secret is not None:
                check_token(settings.secret, request.query.get("token", ""), time.time())
        except PermissionError as error:  # as a message: a page can't read a refusal's body
            await socket.send_json({"type": "ended", "why": str(error)})
            await socket.close()
            return socket
        visit = Visit(
            socket,
            settings=settings,
            lobby=self.lobby,
            open_face=self._open_face,
            portraits=self._portraits,
        )
        self._visits[visit.name] = visit
        try:
            await visit.run()
        finally:
            del self._visits[visit.name]
            transport = request.transport
            if transport is not None and transport.get_write_buffer_size():
                transport.abort()  # what it has not read by now, it never will
        return socket

    async def _shut_down(self, _: web.Application) -> None:
        for visit in self._visits.values():
            visit.end("the gateway is shutting down")
        deadline_s = time.monotonic() + 3.0
        while self._visits and time.monotonic() < deadline_s:
            await asyncio.sleep(0.02)


def _words(settings: Settings, model: str) -> str:
    """Why this model is not ready; "" while it is."""
    try:
        return check_health(settings.url, model, 2.0, settings.server_tls).words
    except AvatarError as error:
        return str(error)


def _refused(words: str) -> web.Response:
    return web.json_response({"words": words}, status=400)


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)


def _portraits(folder: Path | None) -> dict[str, Path]:
    """The pictures of a folder by their names without the ending."""
    found = sorted(folder.iterdir()) if folder else []
    return {path.stem: path for path in found if path.suffix.lower() in _PICTURES}
