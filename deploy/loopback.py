"""The server of this machine is reached directly, whatever proxies the environment names.

pip, apt and downloads keep their proxies. Standard library only.
"""

from __future__ import annotations

import os

CHANNEL_ARGS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
)
"""For `tritonclient.grpc.InferenceServerClient(url, channel_args=...)`; its limits on messages are
dropped, too, as it has none of its own once it is given arguments."""
_PROXIES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")


def environment() -> dict[str, str]:
    """This process's environment variables, without proxies: for a program that talks to it."""
    return {name: value for name, value in os.environ.items() if name.lower() not in _PROXIES}
