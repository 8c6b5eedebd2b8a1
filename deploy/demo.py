"""The demo: stream a speech and a portrait to the server, write the talking video.

    python -m deploy.demo --image portrait.png --audio speech.flac --out out/demo.mp4

A server started by `make serve` is used and left running, else one is started for the moment. A
signal ends the client first, which keeps the video so far.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from deploy import checkout
from deploy.checkout import REPO
from deploy.outcome import exit_code, say
from deploy.server.local import LocalServer, server_left_running

LOG_DIR = REPO / "build" / "demo_server"
"""A folder in it for every start, as demos may run side by side; a failed one leaves its log."""
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(repository: Path, image: Path, audio: Path, out: Path) -> int:
    """The exit code of `live-avatar stream`: 130 after Ctrl-C, 143 after SIGTERM. `RuntimeError` if
    there is no server for it, `ValueError` if a file is not there."""
    _check(image, audio, out)
    if served := server_left_running():
        url, _ = served
        return stream(url, image, audio, out)
    LOG_DIR.mkdir(parents=True, exist_ok=True)
    log_dir = Path(tempfile.mkdtemp(dir=LOG_DIR, prefix=time.strftime("%Y%m%d-%H%M%S-")))
    say(f"starting Triton for {repository}, log in {log_dir / 'server.log'}")
    with LocalServer(repository, log_dir=log_dir) as server:
        code = stream(server.grpc_url, image, audio, out)
    if code == 0:
        shutil.rmtree(log_dir, ignore_errors=True)
    return code


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
    client = Path(checkout.default_python()).with_name("live-avatar")
    command = [str(client), "stream", "--url", url]
    command += ["--image", str(image), "--audio", str(audio), "--out", str(out)]
    try:
        return wait_for(command)
    except FileNotFoundError:
        raise RuntimeError(f"the client is not installed ({client}).\n  Fix: make setup") from None


def wait_for(command: Sequence[str]) -> int:
    """The exit code of a program; 128 and the signal's number where a signal has killed it.

    Signals of `PASSED_ON`, unless ignored as under nohup, go on to the program, which then ends by
    itself: `subprocess.run` would kill it a quarter of a second after Ctrl-C, while it still writes
    its video. As a process group of its own, it gets a terminal's Ctrl-C once, through us. To be
    called from the main thread. `FileNotFoundError` if there is no such program.
    """
    arrived: list[int] = []
    running: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _: object) -> None:
        arrived.append(number)
        for program in running:
            program.send_signal(number)

    before = {number: signal.getsignal(number) for number in PASSED_ON}
    ours = [number for number in PASSED_ON if before[number] is not signal.SIG_IGN]
    try:
        for number in ours:
            signal.signal(number, pass_on)
        running.append(subprocess.Popen(command, process_group=0))
        for early in arrived:  # while the program was being started
            running[0].send_signal(early)
        code = running[0].wait()
    finally:
        for number in ours:
            signal.signal(number, before[number])
    return code if code >= 0 else 128 - code


def main() -> int:
    parser = argparse.ArgumentParser(description="Stream one speech to the server.")
    parser.add_argument("--repository", type=Path, default=REPO / "build" / "model_repository")
    for name in ("image", "audio", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    return run(given.repository, given.image, given.audio, given.out)


if __name__ == "__main__":
    sys.exit(exit_code(main))
