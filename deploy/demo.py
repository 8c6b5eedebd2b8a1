"""The demo: stream a speech and a portrait to the server, write the talking video.

    python -m deploy.demo --image portrait.png --audio speech.flac --out out/demo.mp4

A server started by `make serve` is used and left running. Else one is started on free ports for
the moment, and ended in every case. Ctrl-C and SIGTERM end the client first, which keeps the video
so far.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from deploy import checkout, foreground, server_command, triton_wheel
from deploy.local_server import LocalServer, Ports, running_server
from deploy.outcome import exit_code, say
from deploy.server_health import all_ready

LOG_DIR = triton_wheel.REPO / "build" / "demo_server"
"""A folder in it for every start."""


def run(repository: Path, image: Path, audio: Path, out: Path) -> int:
    """The exit code of `live-avatar stream`: 130 after Ctrl-C, 143 after SIGTERM.

    `RuntimeError` if there is no server for it, `ValueError` if a file is not there.
    """
    _check(image, audio, out)
    if state := running_server():
        ports = Ports(**state["ports"])
        if not all_ready(ports):
            raise RuntimeError("the server of make serve is not ready.\n  Fix: make stop")
        say(f"using the server on gRPC port {ports.grpc}")
        return stream(f"{server_command.ADDRESS}:{ports.grpc}", image, audio, out)
    log_dir = _log_dir()
    say(f"starting Triton for {repository}, log in {log_dir / 'server.log'}")
    with LocalServer(repository, log_dir=log_dir) as server:
        code = stream(server.grpc_url, image, audio, out)
    if code == 0:
        shutil.rmtree(log_dir, ignore_errors=True)
    return code


def _log_dir() -> Path:
    """A folder for this start alone: another demo may run beside it. Only a demo that fails leaves
    its log there."""
    LOG_DIR.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=LOG_DIR, prefix=time.strftime("%Y%m%d-%H%M%S-")))


def _check(image: Path, audio: Path, out: Path) -> None:
    """Before the server starts, which takes much longer."""
    for path, setting in ((image, "PORTRAIT"), (audio, "SPEECH")):
        if not path.is_file():
            raise ValueError(f"there is no file {path}: name another with {setting}=file")
    if out.is_dir():
        raise ValueError(f"{out} is a folder, wanted a file to write: OUT=out/demo.mp4")
    checkout.check_writable(out.parent)


def stream(url: str, image: Path, audio: Path, out: Path) -> int:
    out.parent.mkdir(parents=True, exist_ok=True)
    client = Path(server_command.default_python()).with_name("live-avatar")
    command = [str(client), "stream", "--url", url]
    command += ["--image", str(image), "--audio", str(audio), "--out", str(out)]
    try:
        return foreground.run(command)
    except FileNotFoundError:
        raise RuntimeError(f"the client is not installed ({client}).\n  Fix: make setup") from None


def main() -> int:
    parser = argparse.ArgumentParser(description="Stream one speech to the server.")
    repository = triton_wheel.REPO / "build" / "model_repository"
    parser.add_argument("--repository", type=Path, default=repository)
    for name in ("image", "audio", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    return run(given.repository, given.image, given.audio, given.out)


if __name__ == "__main__":
    sys.exit(exit_code(main))
