"""Who may open a session: pages of this origin, and those that `--origin` names."""

import ipaddress
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import urlsplit


def check_origin(origin: str | None, host: str, bound_to: str, allowed: Sequence[str]) -> None:
    """PermissionError for a browser's page that is not ours.

    `origin` and `host` are the request's headers, `bound_to` is the address that we listen at. The
    scheme is left out of the comparison, since a proxy may have taken the TLS away. A gateway on
    this machine alone is not reached under other names, unless one is allowed: a foreign name may
    be made to point here. Programs other than browsers send no origin.
    """
    if origin is None or origin.rstrip("/") in {known.rstrip("/") for known in allowed}:
        return
    with suppress(ValueError):  # what is no address is no page of ours
        is_same = urlsplit(origin).netloc == host
        if is_same and (_is_local(urlsplit(f"//{host}").hostname) or not _is_local(bound_to)):
            return
    raise PermissionError(f"pages of {origin} may not use this gateway: allow them by --origin")


def _is_local(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
