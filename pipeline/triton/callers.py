"""Who may call a model that serves the public ones.

Any client reaches every model of a server. A stage takes a session's number for its word, so a
stranger could take all of its places. Hence such a model asks for the server's key, which whoever
starts the server gives to its processes. Without that variable it takes every call, and says so.
"""

import json
import logging
import os
from typing import Any

logger = logging.getLogger(__name__)

ENVIRONMENT = "AVATAR_ADMIN_KEY"
PARAMETER = "admin_key"
"""Of a request: the key."""


def credentials() -> dict[str, str]:
    """The parameters of a call that a public model makes."""
    key = os.environ.get(ENVIRONMENT, "")
    return {PARAMETER: key} if key else {}


class Callers:
    """Of one model."""

    def __init__(self, model: str) -> None:
        self.model, self._wanted = model, credentials()
        if not self._wanted:
            logger.warning("%s takes calls from everybody: %s is not set", model, ENVIRONMENT)

    def refusal(self, request: Any) -> str:
        """What a call without the key hears; "" where the call may go on."""
        if not self._wanted:
            return ""
        given = json.loads(request.parameters() or "{}").get(PARAMETER)
        if given == self._wanted[PARAMETER]:
            return ""
        return (
            f"{self.model} serves other models of this server alone; "
            "clients talk to live_avatar or rolling_forcing"
        )
