"""A local server is asked directly, whatever proxies the environment names for downloads.

`key` is the server's (`deploy.server.admin`): without it a server does not tell its models' states.
"""

import http.client
import json
import os

from deploy.server.admin import HTTP_HEADER
from deploy.server.ports import ADDRESS, Ports

CHANNEL_ARGS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
)
"""For `tritonclient.grpc.InferenceServerClient(url, channel_args=...)`. Once it is given arguments
it has no limits on messages of its own, so these drop gRPC's."""
CONDITIONING = "conditioning"
"""What only START needs; a server is drained by unloading it."""
_PROXIES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")


def environment() -> dict[str, str]:
    """The environment's variables without proxies: for a program that asks a server."""
    return {name: value for name, value in os.environ.items() if name.lower() not in _PROXIES}


def all_ready(ports: Ports, key: str) -> bool:
    """Whether the server on these ports is ready and so is each model that it has loaded."""
    return not what_is_missing(ports, key)


def what_is_missing(ports: Ports, key: str) -> str:
    """Why a session would not be served, as the server says; empty if it would. A folder that came
    into the repository later has no state."""
    index = _ask(ports, "POST", "/v2/repository/index", key=key)
    if index is None or _ask(ports, "GET", "/v2/health/ready") is None:
        return "the server is not ready"
    away = [m["name"] for m in json.loads(index) if m.get("state", "READY") != "READY"]
    if away == [CONDITIONING]:
        return "it is being drained: no new sessions"
    return f"not ready: {', '.join(away)}" if away else ""


def why_not_ready(ports: Ports, key: str) -> str:
    """What the server's supervisor says, empty when all is well; without one, what Triton does."""
    connection = http.client.HTTPConnection(ADDRESS, ports.ready, timeout=5)
    try:
        connection.request("GET", "/ready")
        return str(json.loads(connection.getresponse().read())["why"])
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return what_is_missing(ports, key)
    finally:
        connection.close()


def state_of(ports: Ports, model: str, key: str) -> str | None:
    """What the server says of a model, such as READY or UNAVAILABLE; None if it says nothing."""
    index = _ask(ports, "POST", "/v2/repository/index", key=key)
    models = json.loads(index) if index else []
    return next((m.get("state") for m in models if m["name"] == model), None)


def reload_model(ports: Ports, model: str, key: str, timeout_s: float = 120) -> bool:
    """Load a model anew. Triton does nothing when asked to load one that it takes for loaded."""
    path = f"/v2/repository/models/{model}"
    _ask(ports, "POST", f"{path}/unload", timeout_s, key=key)
    return _ask(ports, "POST", f"{path}/load", timeout_s, key=key) is not None


def unload_model(ports: Ports, model: str, key: str) -> bool:
    """Whether the server has taken the model out."""
    return _ask(ports, "POST", f"/v2/repository/models/{model}/unload", key=key) is not None


def metrics_page(ports: Ports) -> str:
    """What Triton shows to Prometheus; empty if it shows nothing."""
    return (_ask(ports, "GET", "/metrics", port=ports.metrics) or b"").decode()


def open_sessions(ports: Ports) -> int | None:
    """Of all public models, as they were half a second ago at most; None if the server does not
    say."""
    return _sums(ports, "avatar_sessions")[0]


def is_full(ports: Ports) -> bool:
    """Whether all places are taken, as far as the server says."""
    places, sessions = _sums(ports, "avatar_places", "avatar_sessions")
    return places is not None and sessions is not None and sessions >= places


def _sums(ports: Ports, *names: str) -> list[int | None]:
    """Of metrics, over all public models; None for one that the server does not say."""
    lines = metrics_page(ports).splitlines()
    values = {
        name: [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name}{{")]
        for name in names
    }
    return [int(sum(values[name])) if values[name] else None for name in names]


def _ask(
    ports: Ports,
    method: str,
    path: str,
    timeout_s: float = 5,
    *,
    port: int | None = None,
    key: str = "",
) -> bytes | None:
    """The body of the answer, or None if there is none or its status is not 200."""
    connection = http.client.HTTPConnection(ADDRESS, port or ports.http, timeout=timeout_s)
    try:
        connection.request(method, path, headers={HTTP_HEADER: key} if key else {})
        answer = connection.getresponse()
        body = answer.read()
        return body if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
