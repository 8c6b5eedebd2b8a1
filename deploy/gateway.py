"""A page for browsers in front of a server of this machine.

    python -m deploy.gateway --port 8080

A server started by `make serve` is used and left running, else one is started and ended with the
gateway. A signal ends the gateway first.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from deploy import checkout
from deploy.checkout import REPO
from deploy.demo import wait_for
from deploy.outcome import INTERRUPTED, exit_code, say
from deploy.server.local import LocalServer, server_left_running

LOG_DIR = REPO / "build" / "gateway_server"
PUBLIC_MODELS = ("live_avatar", "rolling_forcing")
_ENDED_BY_SIGNAL = (INTERRUPTED, 143)


def run(repository: Path, port: int) -> int:
    """The exit code of `live-avatar gateway`. `RuntimeError` if there is no server for it."""
    if served := server_left_running():
        url, its = served
        if missing := public_models(repository) - public_models(its):
            raise RuntimeError(
                f"the server of make serve has no {', '.join(missing)}: it serves {its}.\n"
                "  Fix: make stop"
            )
        return gateway(url, port)
    LOG_DIR.mkdir(parents=True, exist_ok=True)
    log_dir = Path(tempfile.mkdtemp(dir=LOG_DIR, prefix=time.strftime("%Y%m%d-%H%M%S-")))
    say(f"starting Triton for {repository}, log in {log_dir / 'server.log'}")
    with LocalServer(repository, log_dir=log_dir) as server:
        code = gateway(server.grpc_url, port)
    if code in (0, *_ENDED_BY_SIGNAL):
        shutil.rmtree(log_dir, ignore_errors=True)
    return code


def public_models(repository: Path) -> set[str]:
    """Names of those that a page can show."""
    return {name for name in PUBLIC_MODELS if (repository / name).is_dir()}


def gateway(url: str, port: int) -> int:
    client = Path(checkout.default_python()).with_name("live-avatar")
    command = [str(client), "gateway", "--url", url, "--port", str(port)]
    command += ["--portraits", str(REPO / "examples")]
    try:
        return wait_for(command)
    except FileNotFoundError:
        raise RuntimeError(
            f"the client is not installed ({client}).\n  Fix: make gateway"
        ) from None


def main() -> int:
    parser = argparse.ArgumentParser(description="Serve a page for browsers.")
    parser.add_argument("--repository", type=Path, default=REPO / "build" / "model_repository")
    parser.add_argument("--port", type=int, default=8080)
    given = parser.parse_args()
    return run(given.repository, given.port)


if __name__ == "__main__":
    sys.exit(exit_code(main))
