"""Proxies that the environment names: none on the way to this machine, said when one is in it."""

import ipaddress
import os
from urllib.request import proxy_bypass

_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""Those that gRPC reads, the first one wins; it does not read upper case."""


def is_local(url: str) -> bool:
    """Whether a gRPC target is this machine: localhost, a loopback address or a Unix socket."""
    if url.startswith(("unix:", "unix-abstract:")):
        return True
    host = _host(url)
    if f".{host}".endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


def hint(url: str) -> str | None:
    """What to do about the proxy that a call to this target went through; None if there was none.
    The proxy's address stays out of it: it may hold a password."""
    name = next((name for name in _VARIABLES if os.environ.get(name)), None)
    host = _host(url)
    if name is None or is_local(url) or proxy_bypass(host):
        return None
    return (
        f"the environment variable {name} sends the call through a proxy: unset it, or add {host} "
        "to no_proxy"
    )


def _host(url: str) -> str:
    """The host of host:port, [address]:port, dns:///host:port or ipv4:address:port."""
    target = url.rpartition("/")[2].lower()
    for scheme in ("dns:", "ipv4:", "ipv6:"):
        target = target.removeprefix(scheme)
    if target.startswith("["):
        return target[1:].partition("]")[0]
    host = target.rpartition(":")[0] if target.count(":") == 1 else target
    return host.rstrip(".")
