"""The key to what only a server's operators may do.

Without it nobody loads or unloads models, registers shared memory, or sets traces and the log.
Models that serve the public ones (stages, decoders, encoders) take no call without it either.
"""

import os
import secrets
from pathlib import Path

KEY_FILE = "admin.key"
PROTOCOLS = "model-repository,shared-memory,trace,logging"
"""Triton's groups of calls that need the key, over gRPC and over HTTP."""
HTTP_HEADER = "admin-key"
GRPC_HEADER = f"triton-grpc-protocol-{HTTP_HEADER}"
ENVIRONMENT = "AVATAR_ADMIN_KEY"
"""By this variable the models of a server know the key; `pipeline.triton.callers` reads it."""


def make_key(folder: Path) -> str:
    """A new key, which only this user can read in the folder."""
    key, path = secrets.token_hex(24), folder / KEY_FILE
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{key}\n")
    return key


def read_key(folder: Path) -> str:
    """The key of the server that works in the folder, "" if there is none for us."""
    try:
        return (folder / KEY_FILE).read_text().strip()
    except OSError:
        return ""


def flags(key: str) -> list[str]:
    """What `tritonserver` is told."""
    group = f"{PROTOCOLS}:{HTTP_HEADER}={key}"
    return [f"--grpc-restricted-protocol={group}", f"--http-restricted-api={group}"]
