"""Is a local Triton server ready? Asked over HTTP, past any proxy."""

from __future__ import annotations

import http.client
import json

from deploy.server_command import ADDRESS, Ports


def all_ready(ports: Ports) -> bool:
    """Whether the server on these ports is ready and so is each model that it has loaded.

    A folder that came into the repository later has no state.
    """
    if _ask(ports, "GET", "/v2/health/ready") is None:
        return False
    index = _ask(ports, "POST", "/v2/repository/index")
    return index is not None and all(m.get("state", "READY") == "READY" for m in json.loads(index))


def _ask(ports: Ports, method: str, path: str) -> bytes | None:
    """The body of the answer, or None if there is none or its status is not 200."""
    connection = http.client.HTTPConnection(ADDRESS, ports.http, timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
        return body if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
