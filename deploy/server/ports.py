"""The TCP ports of a local server, and where it sends traces."""

import ipaddress
import os
import random
import re
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass

DEFAULT_PORTS = {"grpc": 8001, "http": 8000, "metrics": 8002, "ready": 8003}
ADDRESS = "127.0.0.1"  # HTTP and metrics have no TLS: the local server never listens beyond this


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """TCP ports on the loopback interface."""

    grpc: int = DEFAULT_PORTS["grpc"]
    http: int = DEFAULT_PORTS["http"]
    metrics: int = DEFAULT_PORTS["metrics"]
    ready: int = DEFAULT_PORTS["ready"]  # the supervisor's, which says whether all is well

    def __post_init__(self) -> None:
        for name, port in asdict(self).items():
            if not 1 <= port <= 65535:
                raise ValueError(f"{name} port {port} is not in 1..65535")
        if len(set(asdict(self).values())) < len(DEFAULT_PORTS):
            raise ValueError(f"the ports must differ, got {asdict(self)}")


def check_address(address: str, *, is_encrypted: bool) -> None:
    """ValueError for what is no address of an interface, or for one that others reach while gRPC is
    not encrypted."""
    try:
        is_ours = ipaddress.ip_address(address).is_loopback
    except ValueError:
        raise ValueError(
            f"GRPC_ADDRESS is {address!r}, wanted an interface's address such as 0.0.0.0"
        ) from None
    if not (is_ours or is_encrypted):
        raise ValueError(
            f"GRPC_ADDRESS={address} lets others reach the server without encryption: "
            "add TLS_CERT=file TLS_KEY=file TLS_CA=file, or put a proxy with TLS in front of it"
        )


def plain_ports(address: str, *, is_encrypted: bool) -> str:
    """A warning of the ports that others reach at `address` without encryption; empty where only
    this machine does. ValueError for what is no address of an interface."""
    try:
        is_ours = ipaddress.ip_address(address).is_loopback
    except ValueError:
        raise ValueError(
            f"--address is {address!r}, wanted an interface's address such as 0.0.0.0"
        ) from None
    if is_ours:
        return ""
    which = "metrics and readiness" if is_encrypted else "gRPC, metrics and readiness"
    return (
        f"warning: {which} listen at {address} without TLS: let nobody but a proxy with TLS, or "
        "networks that you trust, reach them"
    )


def grpc_url(address: str, port: int, *, is_encrypted: bool) -> str:
    """Where a client of this machine finds the server."""
    given = ipaddress.ip_address(address)
    host = ADDRESS if given.is_unspecified else f"[{address}]" if given.version == 6 else address
    return f"{'grpcs://' if is_encrypted else ''}{host}:{port}"


def parse_port(text: str, setting: str, lowest: int = 1) -> int:
    """A port that somebody wrote; `ValueError` names the setting that it stood in."""
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not lowest <= port <= 65535:
        raise ValueError(f"{setting} is {text[:80]!r}, wanted a port {lowest}..65535")
    return port


def check_trace_url(url: str) -> str:
    """The address of a collector of traces, "" for none; `ValueError` if it is no such address."""
    if url and not re.fullmatch(r"https?://[^/\s]+/\S*", url):
        raise ValueError(f"TRACE_URL is {url[:80]!r}, wanted http://HOST:PORT/v1/traces")
    return url


def default_texts(given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The ports as GRPC_PORT and its like have them, else the defaults."""
    return {n: given.get(f"{n.upper()}_PORT") or str(port) for n, port in DEFAULT_PORTS.items()}


def why_taken(port: int) -> str | None:
    """What the system says against listening on a port; None if it is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind((ADDRESS, port))
        except OSError as error:
            return str(error.strerror)
    return None


def free_ports() -> Ports:
    """Ports that nobody listens on, below the range the system hands to clients."""
    found: list[int] = []
    while len(found) < len(DEFAULT_PORTS):
        port = random.randint(20000, 32000)
        if port not in found and not why_taken(port):
            found.append(port)
    return Ports(**dict(zip(DEFAULT_PORTS, found, strict=True)))


def check_ports(ports: Ports, *, supervised: bool = False) -> None:
    """`RuntimeError` with the fix if somebody listens on one of the ports; the supervisor's own is
    only looked at where there will be one."""
    wanted = {name: p for name, p in asdict(ports).items() if supervised or name != "ready"}
    taken = {name: port for name, port in wanted.items() if why_taken(port)}
    if taken:
        which = " and ".join(f"{name} port {port}" for name, port in taken.items())
        free = asdict(ports) | {name: asdict(free_ports())[name] for name in taken}
        preset = os.environ.get("PRESET", "demo")
        fix = [] if preset == "demo" else [f"PRESET={preset}"]
        fix += [f"{name.upper()}_PORT={port}" for name, port in free.items()]
        raise RuntimeError(
            f"another program listens on {which} of {ADDRESS}.\n  Fix: make serve {' '.join(fix)}"
        )
