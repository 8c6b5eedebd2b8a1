"""A local server is asked directly, whatever proxies the environment names.

pip, apt and downloads keep their proxies.
"""

import http.client
import json
import os

from deploy.server.ports import ADDRESS, Ports

CHANNEL_ARGS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
)
"""For `tritonclient.grpc.InferenceServerClient(url, channel_args=...)`. Once it is given arguments
it has no limits on messages of its own, so these drop gRPC's."""
_PROXIES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")


def environment() -> dict[str, str]:
    """The environment's variables without proxies: for a program that asks a server."""
    return {name: value for name, value in os.environ.items() if name.lower() not in _PROXIES}


def all_ready(ports: Ports) -> bool:
    """Whether the server on these ports is ready and so is each model that it has loaded. A folder
    that came into the repository later has no state."""
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
