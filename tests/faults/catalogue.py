"""The faults, in the order of docs/faults.md."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc as plain_grpc
import numpy as np

from deploy.server import process
from deploy.server.local import LocalServer
from export.repository.assemble import assemble
from tests.faults.scene import DEMO, PLACES, Scene, memory_mb
from tests.support.drawn_pictures import png_header, png_of
from tests.support.raw_stream import IMAGE

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`strike` does it, beside two people who talk, and says what its maker saw, if it is one of
    the visitors. `breaks`: "" if nobody else may notice; "model" if sessions are held and go on;
    "session" if they end and are begun anew."""

    number: str
    what: str
    strike: Callable[[Scene], str]
    breaks: str = ""
    costs_s: float = 0.48
    """By how much the others' longest gap may grow: a block is wanted."""


FAULTS: list[Fault] = []


def fault(
    number: str, what: str, breaks: str = "", costs_s: float = 0.48
) -> Callable[[Callable[[Scene], str]], None]:
    def enter(strike: Callable[[Scene], str]) -> None:
        found = Fault(number=number, what=what, strike=strike, breaks=breaks, costs_s=costs_s)
        FAULTS.append(found)

    return enter


def kill(model: str) -> Callable[[Scene], str]:
    def strike(scene: Scene) -> str:
        os.kill(scene.pid_of(model), signal.SIGKILL)
        return ""

    return strike


fault("1", "SIGKILL of a stage (`dit_stage_1`)", "model")(kill("dit_stage_1"))
fault("2", "SIGKILL of `vae_decoder`", "model")(kill("vae_decoder"))
fault("3", "SIGKILL of `audio_encoder`", "model")(kill("audio_encoder"))
fault("4", "SIGKILL of `live_avatar`", "session")(kill("live_avatar"))


@fault("5", "a stage stands still for 1.6 s, then goes on", "model")
def pause(scene: Scene) -> str:
    pid = scene.pid_of("dit_stage_1")
    os.kill(pid, signal.SIGSTOP)
    time.sleep(1.6)
    if process.is_alive(pid, "dit_stage_1"):
        os.kill(pid, signal.SIGCONT)
    return ""


@fault("6", "a stage stands still for ever", "model")
def stand_still(scene: Scene) -> str:
    os.kill(scene.pid_of("dit_stage_0"), signal.SIGSTOP)
    return ""


@fault("7", "SIGKILL of `tritonserver`", "session")
def kill_server(scene: Scene) -> str:
    os.kill(scene.pid, signal.SIGKILL)
    return ""


@fault("8", "three visitors' programs are killed")
def kill_clients(scene: Scene) -> str:
    command = [sys.executable, "-m", "live_avatar_client", "stream", "--url", scene.url]
    command += ["--image", "examples/portrait.png", "--audio", "examples/speech.flac"]
    for _ in range(3):
        visitor = subprocess.Popen(
            [*command, "--realtime", "--out", os.devnull],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(2)
        visitor.kill()
        visitor.wait()
    return "their places are free again"


@fault("9", "a visitor sends 300 s of sound in 10 s and never reads")
def never_read(scene: Scene) -> str:
    before_mb = memory_mb(scene.pid)
    visitor, reads = scene.stream(), threading.Event()
    visitor.client.stop_stream()
    visitor.client.start_stream(lambda result, error: reads.wait())
    visitor.send(start=True, image=IMAGE)
    for _ in range(75):
        visitor.send(audio=np.zeros(4 * 16_000, np.float32))
        time.sleep(0.13)
    time.sleep(3)
    grown_mb = memory_mb(scene.pid) - before_mb
    reads.set()
    visitor.close()
    assert grown_mb < 250
    return f"the server held {grown_mb:.0f} MB more"


def refusal(scene: Scene, words: str, **inputs: np.ndarray) -> str:
    """What a visitor hears who starts so; AssertionError if it is something else."""
    visitor = scene.stream()
    blocks, said = visitor.ask(start=True, **inputs)
    visitor.close()
    assert blocks == 0
    assert words in said, said
    return said


@fault("10", "five damaged pictures")
def damaged_pictures(scene: Scene) -> str:
    whole = IMAGE.tobytes()
    damaged = (whole[: len(whole) // 2], whole[:40], b"no picture", b"", b"\x89PNG" + whole[8:])
    said = [
        refusal(scene, "image", image=np.frombuffer(data, np.uint8)) for data in damaged if data
    ]
    return f"refused: “{said[0].partition('; ')[0]}”"


@fault("11", "a PNG of 30,000 × 30,000 pixels in 100 kB")
def huge_picture(scene: Scene) -> str:
    data = png_of(png_header(30_000, 30_000, 1, 0), bytes(100_000))
    said = refusal(scene, "pixels", image=np.frombuffer(data, np.uint8))
    return f"refused: “{said}”"


@fault("11b", "a picture that takes long: 7,000 × 2,200 pixels of 16 bits")
def slow_picture(scene: Scene) -> str:
    header = png_header(7000, 2200, 16, 6)
    data = png_of(header, np.random.default_rng(0).bytes(2200 * (7000 * 8 + 1)))
    rows = np.frombuffer(data, np.uint8)
    visitor, began = scene.stream(), time.monotonic()
    _, said = visitor.ask(start=True, image=rows)
    took_s = time.monotonic() - began
    visitor.close()
    return f"{'refused' if said else 'served'} after {took_s:.1f} s"


@fault("12", "NaN, infinite and 16-bit-scale sound")
def odd_sound(scene: Scene) -> str:
    visitor = scene.stream()
    assert visitor.ask(start=True, image=IMAGE) == (0, "")
    for value in (np.nan, np.inf, 20_000.0):
        blocks, said = visitor.ask(audio=np.full(16_000, value, np.float32))
        assert blocks == 0
        assert said
    assert visitor.ask(audio=np.zeros(17_000, np.float32)) == (2, "")
    visitor.ask(end=True)
    visitor.close()
    return "each refused in words, the session goes on"


@fault("12b", "600 s of sound in one request")
def long_request(scene: Scene) -> str:
    visitor = scene.stream()
    visitor.send(start=True, image=IMAGE, audio=np.zeros(600 * 16_000, np.float32))
    time.sleep(6)
    visitor.close()
    return "served as fast as cores allow, until it left"


@fault(
    "12c", "10,000 requests of 1 ms of sound", costs_s=1.2
)  # its 10 s of sound, however they come
def tiny_requests(scene: Scene) -> str:
    command = [sys.executable, "-m", "tests.faults.flood", scene.url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@fault("18", "ten visitors at two places")
def crowd(scene: Scene) -> str:
    visitors = [scene.stream() for _ in range(10)]
    began = time.monotonic()
    for visitor in visitors:
        visitor.send(start=True, image=IMAGE)
    said = [visitor.answer()[1] for visitor in visitors]
    took_s = time.monotonic() - began
    for visitor, words in zip(visitors, said, strict=True):
        if not words:
            visitor.ask(end=True)
        visitor.close()
    refused = [words for words in said if words]
    assert len(refused) == 10 - (PLACES - 2), said
    assert all("sessions" in words for words in refused)
    return f"{len(refused)} refused within {took_s:.1f} s: “{refused[0]}”"


@fault("19", "500 connections that say nothing")
def idle_connections(scene: Scene) -> str:
    channels = [
        plain_grpc.insecure_channel(scene.url, [("grpc.use_local_subchannel_pool", 1)])
        for _ in range(500)
    ]
    for channel in channels:
        plain_grpc.channel_ready_future(channel).result(timeout=20)
    held = len(list(Path(f"/proc/{scene.pid}/fd").iterdir()))
    time.sleep(2)
    for channel in channels:
        channel.close()
    time.sleep(1)
    left = held - len(list(Path(f"/proc/{scene.pid}/fd").iterdir()))
    assert left >= 490
    return "all of them can be open at once; closed, they leave nothing"


def refused_start(at: Path, spoil: Callable[[Path], None]) -> str:
    """What a server says of a repository that was spoilt; AssertionError if it serves it."""
    repository = assemble(DEMO, at / "spoilt", steps="0,1 2,3")
    spoil(repository)
    server = LocalServer(repository, log_dir=at / "spoilt_log")
    began = time.monotonic()
    try:
        server.start()
    except RuntimeError as error:
        return f"refused after {time.monotonic() - began:.1f} s: “{_first_line(str(error))}”"
    finally:
        server.stop()
    raise AssertionError("it was served")


def _first_line(words: str) -> str:
    lines = [line.strip() for line in words.splitlines() if ": " in line]
    return (lines[1] if lines[0].endswith(":") else lines[0])[:160]
