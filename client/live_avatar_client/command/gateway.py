"""`live-avatar gateway`: a page for browsers in front of a server."""

import ssl
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from live_avatar_client.command.arguments import (
    CA_VARIABLE,
    CERT_VARIABLE,
    KEY_VARIABLE,
    checked_text,
    checked_url,
)
from live_avatar_client.files import check_file, words
from live_avatar_client.protocol import DEFAULT_URL, MODEL
from live_avatar_client.provenance.mark import Mark
from live_avatar_client.tls import Tls

Secret = Annotated[
    Path | None,
    typer.Option(help="File with a secret: visitors then need a token made with it."),
]

ServerCa = Annotated[
    Path | None, typer.Option(envvar=CA_VARIABLE, help="PEM file: who signs the server's.")
]
ServerCert = Annotated[
    Path | None, typer.Option(envvar=CERT_VARIABLE, help="PEM file to show the server.")
]
ServerKey = Annotated[Path | None, typer.Option(envvar=KEY_VARIABLE, help="PEM file of its key.")]


def gateway(
    url: Annotated[
        str, typer.Option(help="host:port of the server's gRPC endpoint.")
    ] = DEFAULT_URL,
    model: Annotated[str, typer.Option(help="Name of the model on the server.")] = MODEL,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 is all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8080,
    portraits: Annotated[
        Path | None, typer.Option(help="Folder of pictures that visitors may choose from.")
    ] = None,
    max_visitors: Annotated[
        int | None,
        typer.Option(min=1, help="Sessions at once, others queue; as many as the server has."),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(help="Another page's origin that may use this gateway; may be repeated."),
    ] = None,
    server_tls_ca: ServerCa = None,
    server_tls_cert: ServerCert = None,
    server_tls_key: ServerKey = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM file: serve https.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of its key.")] = None,
    token_secret: Secret = None,
    mark_secret: Annotated[
        Path | None, typer.Option(help="File with a secret: mark every picture, invisibly.")
    ] = None,
    stun: Annotated[str | None, typer.Option(help="Such as stun:host:3478.")] = None,
    turn: Annotated[str | None, typer.Option(help="Such as turn:host:3478.")] = None,
    turn_user: Annotated[str | None, typer.Option(help="Name at the TURN server.")] = None,
    turn_password: Annotated[
        str | None, typer.Option(envvar="TURN_PASSWORD", help="Its password; pages get to know it.")
    ] = None,
    say_program: Annotated[
        str, typer.Option(help="Reads a sentence from stdin, writes a sound file to stdout.")
    ] = "espeak-ng --stdin --stdout",
) -> None:
    """Serve a page on which a person talks with the avatar in a browser; Ctrl-C ends it."""
    try:
        from live_avatar_client.gateway import settings
        from live_avatar_client.gateway.serve import serve
    except ModuleNotFoundError as error:
        raise ValueError(
            f"the gateway needs the package {error.name}: make gateway installs it, or "
            "pip install 'live-avatar-client[gateway]'"
        ) from None
    checked_text("--model", model)
    given = settings.Settings(
        url=checked_url(url),
        model=model,
        host=host,
        port=port,
        portraits=portraits,
        max_visitors=max_visitors,
        origins=tuple(origin or ()),
        secret=_secret(token_secret),
        ice=settings.ice_servers(stun, turn, turn_user, turn_password),
        say_program=settings.command_words("--say-program", say_program),
        mark=_mark(mark_secret),
        server_tls=Tls.of_files(server_tls_ca, server_tls_key, server_tls_cert),
    )
    serve(given, _tls(tls_cert, tls_key), _tell)


def token(
    token_secret: Annotated[Path, typer.Option(help="File with the gateway's secret.")],
    minutes: Annotated[float, typer.Option(min=0.1, max=527040, help="How long it holds.")] = 60,
) -> None:
    """Print a token that lets a visitor into a gateway with a secret: /?token=…"""
    from live_avatar_client.gateway import tokens

    secret = _secret(token_secret)
    assert secret is not None
    typer.echo(tokens.token(secret, int(time.time() + 60 * minutes)))


def _secret(path: Path | None, option: str = "--token-secret") -> bytes | None:
    if path is None:
        return None
    check_file(option, path)
    return path.read_bytes().strip()


def _mark(path: Path | None) -> Mark | None:
    secret = _secret(path, "--mark-secret")
    return None if secret is None else Mark(secret)


def _tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise ValueError("--tls-cert and --tls-key come together")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"--tls-cert {cert}, --tls-key {key}: {words(error)}") from None
    return context


def _tell(address: str, num_places: int) -> None:
    visitors = "one visitor" if num_places == 1 else f"{num_places} visitors"
    Console(stderr=True).print(f"open {address} for {visitors} at once; Ctrl-C ends it")
