"""The life of a gateway: it listens until it is told to end, and lets go of everything then."""

import asyncio
import contextlib
import signal
import ssl
from collections.abc import Callable

from aiohttp import web

from live_avatar_client.gateway.app import Gateway
from live_avatar_client.gateway.settings import Settings
from live_avatar_client.gateway.visit import OpenFace
from live_avatar_client.live.session import LiveSession
from live_avatar_client.protocol import AvatarError
from live_avatar_client.rolling import ROLLING_MODEL
from live_avatar_client.stream import num_sessions

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def serve(
    settings: Settings,
    tls: ssl.SSLContext | None,
    listening: Callable[[str, int], None],
    open_face: OpenFace = LiveSession,
) -> None:
    """Serve until a signal ends it. `listening` hears the address and the number of places.

    Signals that are ignored, as under nohup, stay so. Raises AvatarError when no server tells how
    many sessions it has, and `settings` don't either; ValueError for an address that can't be had.
    """
    places = settings.max_visitors or _num_places(settings)
    asyncio.run(_serve(Gateway(settings, places, open_face), tls, listening))


def _num_places(settings: Settings) -> int:
    """Sessions of the face's model, or of the film's where that is what the server has."""
    try:
        return num_sessions(settings.url, settings.model, tls=settings.server_tls)
    except AvatarError:
        with contextlib.suppress(AvatarError):
            return num_sessions(settings.url, ROLLING_MODEL, tls=settings.server_tls)
        raise


async def _serve(
    gateway: Gateway, tls: ssl.SSLContext | None, listening: Callable[[str, int], None]
) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, told.set)
    host, port = gateway.settings.host, gateway.settings.port
    runner = web.AppRunner(gateway.app(), access_log=None, shutdown_timeout=3.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, ssl_context=tls).start()
        except OSError as error:
            raise ValueError(
                f"{host}:{port} can't be listened at ({error.strerror or error}): choose another "
                "--port or --host"
            ) from None
        port = runner.addresses[0][1]
        name = f"[{host}]" if ":" in host else host
        listening(f"{'https' if tls else 'http'}://{name}:{port}/", gateway.lobby.num_places)
        await told.wait()
    finally:
        await runner.cleanup()
