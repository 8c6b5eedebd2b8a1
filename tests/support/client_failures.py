"""Ways in which clients fail, each against the real server; run by `test_server_places`.

A way takes the server's gRPC address, opens a session, fails, and returns when its client is gone,
with the moment of its failure on `time.monotonic`'s clock.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpc

from deploy.server.health import CHANNEL_ARGS
from live_avatar_client import AvatarError, Session, read_audio
from tests.support.raw_stream import IMAGE

ROOT = Path(__file__).parents[2]
PORTRAIT, SPEECH = ROOT / "examples" / "portrait.png", ROOT / "examples" / "speech.flac"


def session(url: str, **options: object) -> Session:
    return Session(url=url, image=options.pop("image", PORTRAIT), **options)  # type: ignore[arg-type]


def voice(seconds: float = 20.0, pace_s: float = 0.0) -> Iterator[np.ndarray]:
    """Chunks of 40 ms, by `pace_s` each."""
    for _ in range(round(seconds / 0.04)):
        time.sleep(pace_s)
        yield np.zeros(640, np.float32)


def leaves_the_loop(url: str) -> float:
    with session(url) as open_session:
        for _ in open_session.stream(voice(pace_s=0.04)):
            failed_s = time.monotonic()
            break
    return failed_s


def source_raises(url: str) -> float:
    failed_s = 0.0

    def broken() -> Iterator[np.ndarray]:
        nonlocal failed_s
        yield from voice(0.6, pace_s=0.04)
        failed_s = time.monotonic()
        raise OSError("the microphone was pulled out")

    with contextlib.suppress(OSError), session(url) as open_session:
        list(open_session.stream(broken()))
    return failed_s


def bad_audio_file(url: str) -> float:
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        file.write(b"no sound at all" * 100)
        file.flush()
        with contextlib.suppress(ValueError), session(url) as open_session:
            failed_s = time.monotonic()
            list(open_session.stream(read_audio(file.name)))
    return failed_s


def viewer_raises(url: str) -> float:
    failed_s = 0.0
    with contextlib.suppress(ZeroDivisionError), session(url) as open_session:
        for _ in open_session.stream(voice()):
            failed_s = time.monotonic()
            raise ZeroDivisionError("the window was closed")
    return failed_s


def server_refuses_audio(url: str) -> float:
    failed_s = 0.0
    with contextlib.suppress(AvatarError), session(url) as open_session:
        open_session.send(np.zeros(9000, np.float32))
        next(iter(open_session))
        failed_s = time.monotonic()
        open_session.send(np.full(100, np.nan, np.float32))
        open_session.send(np.zeros(9000, np.float32))
        list(open_session)
    return failed_s


def server_refuses_the_picture(url: str) -> float:
    failed_s = time.monotonic()
    with contextlib.suppress(AvatarError), session(url, image=b"no picture") as open_session:
        list(open_session.stream(voice(2.0)))
    return failed_s


def leaves_without_a_word(url: str) -> float:
    with session(url) as open_session:
        open_session.send(np.zeros(9000, np.float32))
        next(iter(open_session))
        time.sleep(0.3)
        failed_s = time.monotonic()
    return failed_s


def cancels_after_20_ms(url: str) -> float:
    client = grpc.InferenceServerClient(url, channel_args=CHANNEL_ARGS)
    client.start_stream(lambda result, error: None)
    image = grpc.InferInput("image", IMAGE.shape, "UINT8")
    image.set_data_from_numpy(IMAGE)
    number = int.from_bytes(os.urandom(7), "big")
    client.async_stream_infer("live_avatar", [image], sequence_id=number, sequence_start=True)
    time.sleep(0.02)
    failed_s = time.monotonic()
    client.stop_stream(cancel_requests=True)
    client.close()
    return failed_s


def connection_breaks(url: str) -> float:
    failed_s = 0.0
    host, port = url.split(":")
    with (
        _wire(host, int(port)) as (address, cut),
        contextlib.suppress(AvatarError),
        session(address) as open_session,
    ):
        for _ in open_session.stream(voice(pace_s=0.04)):
            failed_s = failed_s or time.monotonic()
            cut()
    return failed_s


@contextlib.contextmanager
def _wire(host: str, port: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """A TCP connection through here, and what cuts it."""
    listener = socket.create_server(("127.0.0.1", 0))
    ends: list[socket.socket] = []

    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                near = listener.accept()[0]
                far = socket.create_connection((host, port))
                ends.extend((near, far))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=copy, args=pair, daemon=True).start()

    def cut() -> None:
        listener.close()
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}", cut
    finally:
        cut()


_VIEWER = """
import sys, time
import numpy as np
from live_avatar_client import Session
with Session(url=sys.argv[1], image=sys.argv[2]) as session:
    session.send(np.zeros(int(sys.argv[3]), np.float32))
    next(iter(session))
    print("streaming", flush=True)
    time.sleep(60)
"""


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}"}


def _killed(url: str, samples: int) -> float:
    command = [sys.executable, "-c", _VIEWER, url, str(PORTRAIT), str(samples)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=_environment()) as viewer:
        assert viewer.stdout is not None
        assert viewer.stdout.readline() == b"streaming\n"
        failed_s = time.monotonic()
        viewer.kill()
    return failed_s


def killed_while_it_is_answered(url: str) -> float:
    return _killed(url, 8 * 16_000)


def killed_while_it_waits(url: str) -> float:
    return _killed(url, 9000)


def _signalled(url: str, number: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "talk.mp4"
        command = [sys.executable, "-m", "live_avatar_client", "stream", "--realtime"]
        command += ["--url", url, "--image", str(PORTRAIT), "--audio", str(SPEECH)]
        with subprocess.Popen(
            [*command, "--out", str(out)],
            env=_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as viewer:
            time.sleep(2.5)
            assert viewer.poll() is None
            failed_s = time.monotonic()
            viewer.send_signal(number)
            _, words = viewer.communicate(timeout=20)
        assert b"Traceback" not in words
    return failed_s


def interrupted(url: str) -> float:
    return _signalled(url, signal.SIGINT)


def terminated(url: str) -> float:
    return _signalled(url, signal.SIGTERM)


WAYS: dict[str, Callable[[str], float]] = {
    "the loop over `session.stream` is left by `break`": leaves_the_loop,
    "the source of audio raises": source_raises,
    "the audio file can't be decoded": bad_audio_file,
    "the viewer's own code raises": viewer_raises,
    "the server refuses a request in mid-session": server_refuses_audio,
    "the server refuses START (a bad picture)": server_refuses_the_picture,
    "the session is closed without END": leaves_without_a_word,
    "the stream is cancelled 20 ms after START": cancels_after_20_ms,
    "the connection breaks": connection_breaks,
    "the process is killed while it is answered": killed_while_it_is_answered,
    "the process is killed while nothing is owed to it": killed_while_it_waits,
    "Ctrl-C in `live-avatar stream --realtime`": interrupted,
    "SIGTERM to `live-avatar stream --realtime`": terminated,
}
"""By the words of the table in docs/protocol.md."""
