"""A supervised server through the deaths and standstills of its models' processes."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from deploy.server import heartbeats, process
from deploy.server.health import reload_model, state_of, unload_model
from deploy.server.local import LocalServer
from deploy.server.supervisor import Supervisor
from export.repository.assemble import assemble
from live_avatar_client import Session
from tests.server.healing.supervision import pid_of, supervised, until
from tests.support.raw_stream import IMAGE, Stream

pytestmark = pytest.mark.triton
DEMO = Path(__file__).parents[3] / "artifacts" / "demo"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("supervised")
    repository = assemble(DEMO, folder / "repository", steps="0,1 2,3")
    with LocalServer(repository, log_dir=folder / "log") as server:
        yield server


@pytest.fixture
def supervisor(server: LocalServer) -> Iterator[Supervisor]:
    with supervised(server) as supervisor:
        yield supervisor


def is_served(server: LocalServer) -> bool:
    """Whether a new session is."""
    probe = Stream(server)
    answer = probe.ask(start=True, image=IMAGE)
    probe.ask(end=True)
    probe.close()
    return answer == (0, "")


def most_slow(*models: str) -> list[Any]:
    """The first always, the others where time is no matter."""
    return [models[0], *(pytest.param(model, marks=pytest.mark.slow) for model in models[1:])]


@pytest.mark.parametrize(
    "model", most_slow("live_avatar", "dit_stage_0", "dit_stage_1", "vae_decoder", "audio_encoder")
)
def test_a_model_whose_process_is_killed_is_back(
    server: LocalServer, supervisor: Supervisor, model: str
) -> None:
    """It would stay dead for ever, and every health endpoint say ready."""
    assert supervisor.why_not_ready() == ""
    os.kill(pid_of(server, model), signal.SIGKILL)
    assert until(supervisor, False, 2) < 0.5
    assert model in supervisor.why_not_ready()
    until(supervisor, True, 20)
    assert is_served(server)


def test_a_process_that_stands_still_never_aborts_the_server(
    server: LocalServer, supervisor: Supervisor
) -> None:
    """A pause of a second and a half, and the next call takes everybody down."""
    talk = Stream(server)
    assert talk.ask(start=True, image=IMAGE) == (0, "")
    stage = pid_of(server, "dit_stage_1")
    os.kill(stage, signal.SIGSTOP)
    talk.send(audio=np.zeros(3 * 7680, np.float32))
    time.sleep(1.6)
    if process.is_alive(stage, server.token):
        os.kill(stage, signal.SIGCONT)
    assert talk.answer() == (2, "")
    talk.ask(end=True)
    talk.close()
    until(supervisor, True, 20)
    assert pid_of(server, "dit_stage_1") != stage
    assert is_served(server)


MOMENTS = [  # of a START, in seconds after the death
    ("dit_stage_1", 0.0),
    *(
        pytest.param(*moment, marks=pytest.mark.slow)
        for moment in (
            *(("dit_stage_0", 0.6), ("vae_decoder", 0.0), ("audio_encoder", 0.0)),
            *(("text_encoder", 0.0), ("text_encoder", 0.6), ("vae_encoder", 1.2)),
        )
    ),
]


@pytest.mark.parametrize(("model", "after_s"), MOMENTS)
def test_a_session_that_meets_a_dead_model_starts_a_little_later(
    server: LocalServer, supervisor: Supervisor, model: str, after_s: float
) -> None:
    """A client would be refused by a server that is whole again in two seconds."""
    os.kill(pid_of(server, model), signal.SIGKILL)
    time.sleep(after_s)
    talk, began = Stream(server), time.monotonic()
    assert talk.ask(start=True, image=IMAGE) == (0, "")
    print(f"{model}: START took {time.monotonic() - began:.2f} s")
    assert talk.ask(audio=np.zeros(3 * 7680, np.float32)) == (2, "")
    talk.ask(end=True)
    talk.close()
    until(supervisor, True, 20)


def started_s(pid: int) -> float:
    """When a process began, in seconds since the machine did."""
    return psutil.Process(pid).create_time() - psutil.boot_time()


def test_stages_that_die_together_are_loaded_together_and_once(
    server: LocalServer, supervisor: Supervisor
) -> None:
    """Sessions would wait for one after the other, and for processes that are only asked what
    their configuration leaves out."""
    stages, before = ("dit_stage_0", "dit_stage_1"), set(server.stub_pids())
    for stage in stages:
        os.kill(pid_of(server, stage), signal.SIGKILL)
    came: dict[int, float] = {}
    away_s: dict[str, float] = {}
    until(supervisor, False, 2)
    while words := supervisor.why_not_ready():
        now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        came |= {pid: started_s(pid) for pid in set(server.stub_pids()) - before}
        away_s |= {stage: now_s for stage in stages if stage in words}
        time.sleep(0.02)
    assert max(came.values()) < min(away_s.values())  # both had begun when one was still away
    assert len(came) == 2
    assert is_served(server)


@pytest.mark.slow
def test_a_process_that_dies_as_soon_as_it_is_back_is_brought_back_again(
    server: LocalServer, supervisor: Supervisor
) -> None:
    """Nobody had seen it yet, so it stayed dead, and the server said that it was ready."""
    for _ in range(3):
        os.kill(pid_of(server, "vae_encoder"), signal.SIGKILL)
        until(supervisor, False, 2)
        until(supervisor, True, 20)
    assert is_served(server)


@pytest.mark.slow
def test_what_somebody_unloads_stays_unloaded(server: LocalServer, supervisor: Supervisor) -> None:
    """An operator would fight with the supervisor."""
    before = supervisor.num_reloads
    assert unload_model(server.ports, "text_encoder", server.admin_key)
    time.sleep(3)
    assert state_of(server.ports, "text_encoder", server.admin_key) != "READY"
    assert supervisor.num_reloads == before
    assert reload_model(server.ports, "text_encoder", server.admin_key)
    until(supervisor, True, 10)


def spoken(
    server: LocalServer,
    num_blocks: int,
    fault: Callable[[], None] | None = None,
    pace_s: float = 0.48,
) -> Any:
    """Frames and largest gap in seconds of a session that speaks a block every `pace_s`, real time;
    `fault` strikes in the middle."""
    rng = np.random.default_rng(0)
    speech = (0.1 * rng.standard_normal(num_blocks * 7680)).astype(np.float32)
    frames, times = [], []

    def paced() -> Iterator[np.ndarray]:
        began = time.monotonic()
        for number, part in enumerate(np.split(speech, num_blocks)):
            time.sleep(max(0.0, began + pace_s * number - time.monotonic()))
            if number == num_blocks // 2 and fault is not None:
                fault()
            yield part

    with Session(url=server.grpc_url, image=IMAGE.tobytes(), idle=False) as session:
        for block in session.stream(paced()):
            frames.append(block.frames)
            times.append(time.monotonic())
    return np.concatenate(frames), float(np.diff(times).max())


@pytest.mark.parametrize(
    "model", most_slow("dit_stage_1", "dit_stage_0", "audio_encoder", "vae_decoder")
)
def test_a_session_outlives_a_death_and_its_frames_are_the_same(
    server: LocalServer, supervisor: Supervisor, model: str
) -> None:
    """Everybody who talks would be cut off."""
    wanted, _ = spoken(server, 12)
    found, gap_s = spoken(server, 12, lambda: os.kill(pid_of(server, model), signal.SIGKILL))
    print(f"{model}: largest gap {gap_s:.2f} s")
    np.testing.assert_array_equal(found, wanted)
    assert gap_s < 12  # 3 s on an idle machine
    until(supervisor, True, 20)


@pytest.mark.slow
def test_a_model_that_does_not_answer_is_ended_and_its_sessions_go_on(
    server: LocalServer, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that hangs is no process that died. There is a call under way at every look."""
    wanted, _ = spoken(server, 40, pace_s=0)
    before = supervisor.num_reloads

    def expect_impossible() -> None:
        monkeypatch.setattr(heartbeats, "CALL_S", 0.01)

    def relax() -> None:
        while supervisor.num_reloads == before:
            time.sleep(0.05)
        monkeypatch.setattr(heartbeats, "CALL_S", 60.0)

    watching = threading.Thread(target=relax, daemon=True)
    watching.start()
    found, _ = spoken(server, 40, expect_impossible, pace_s=0)
    watching.join(60)
    assert supervisor.num_reloads > before
    np.testing.assert_array_equal(found, wanted)
    until(supervisor, True, 20)
