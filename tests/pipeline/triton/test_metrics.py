"""What a public model shows of itself on the metrics endpoint."""

import importlib
import time
from types import ModuleType, SimpleNamespace

import numpy as np

from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.avatar.request import ANY_BLOCK
from pipeline.sessions.drift import Distances, Drift
from pipeline.sessions.kept import keep_blocks
from pipeline.sessions.replay import ReplayedCalls
from tests.pipeline.triton.conftest import MetricFamily
from tests.support.fake_executor import CONFIG, FakeExecutor, submit, wait_until

MODEL = ("model", "live_avatar")
STATIONS = ("audio", "stage 0", "stage 1", "stage 2", "stage 3", "decoder")


class NoCalls:
    """Of models that do nothing."""

    def open(self, *_: object) -> None: ...
    def close(self, _: int) -> None: ...
    def step(self, *_: object) -> None: ...


def value(name: str, **labels: str) -> float:
    key = tuple(sorted((MODEL, *labels.items())))
    return MetricFamily.all[f"avatar_{name}"].metrics[key].value  # type: ignore[no-any-return]


def observed(name: str) -> list[float]:
    return MetricFamily.all[f"avatar_{name}"].metrics[(MODEL,)].observed  # type: ignore[no-any-return]


def test_sessions_blocks_and_times_are_counted(serving: ModuleType) -> None:
    """Nobody could tell a full server from a broken one."""
    metrics = importlib.import_module("pipeline.triton.metrics")
    avatar = AvatarOrchestrator(CONFIG, FakeExecutor(0.001), max_sessions=2, idle_timeout_s=5)
    shown = metrics.Metrics("live_avatar", avatar, None)
    shown.update()
    assert (value("sessions"), value("places")) == (0, 2)
    assert submit(avatar, 1, start=True, blocks=3).wait() == ""
    assert submit(avatar, 2, start=True).wait() == ""
    assert submit(avatar, 3, start=True).wait() != ""
    shown.update()
    assert [value(f"sessions_{n}_total") for n in ("started", "refused", "ended")] == [2, 1, 0]
    assert (value("sessions"), value("blocks_total"), value("frames_total")) == (2, 3, 36)
    assert len(observed("first_frame_seconds")) == 1
    assert len(observed("block_seconds")) == 3
    for station in ("stage 0", "stage 3", "decoder"):
        assert 0.003 < value("station_busy_seconds_total", station=station) < 1
    assert submit(avatar, 2, interrupt=ANY_BLOCK).wait() == ""
    assert submit(avatar, 2, end=True).wait() == ""
    avatar.fail_all("the test says so")
    wait_until(lambda: not avatar.sessions)
    shown.update()
    shown.update()
    assert [value(f"sessions_{n}_total") for n in ("ended", "failed")] == [1, 1]
    assert (value("interruptions_total"), value("blocks_total"), value("sessions")) == (1, 3, 0)
    avatar.stop()


def test_a_busy_pipeline_shows_where_it_waits(serving: ModuleType) -> None:
    """Which stage holds the others up could not be told."""
    metrics = importlib.import_module("pipeline.triton.metrics")
    executor = FakeExecutor(0.001)
    avatar = AvatarOrchestrator(CONFIG, executor, max_sessions=2, idle_timeout_s=5)
    shown = metrics.Metrics("live_avatar", avatar, None)
    executor.start_gate.clear()
    talk = submit(avatar, 1, start=True, blocks=10)
    wait_until(lambda: avatar.sessions and avatar.sessions[1].blocks_known == 10)
    shown.update()
    assert value("backlog_seconds") == 10 * 0.48
    with executor._busy[2]:
        executor.start_gate.set()
        wait_until(lambda: avatar.stations[3].num_waiting)
        shown.update()
        assert value("station_queue", station="stage 2") > 0
        assert value("blocks_in_flight") > 2
        time.sleep(0.6)  # what is answered after this is late
    assert talk.wait() == ""
    shown.update()
    assert value("backlog_seconds") == 0
    busy = {name: value("station_busy_seconds_total", station=name) for name in STATIONS}
    assert max(busy, key=lambda name: busy[name]) == "stage 2"
    assert 0.6 < busy["stage 2"] < value("active_seconds_total") < 5
    avatar.stop()


def test_blocks_that_a_viewer_waits_for_are_counted(serving: ModuleType) -> None:
    """Halting films would look like a quiet evening."""
    metrics = importlib.import_module("pipeline.triton.metrics")
    executor = FakeExecutor()
    avatar = AvatarOrchestrator(CONFIG, executor, max_sessions=2, idle_timeout_s=5)
    shown = metrics.Metrics("live_avatar", avatar, None)
    assert submit(avatar, 1, start=True, blocks=1).wait() == ""
    with executor._busy[-1]:
        talk = submit(avatar, 1, blocks=2)
        time.sleep(0.6)
    assert talk.wait() == ""
    shown.update()
    assert (value("blocks_total"), value("blocks_late_total")) == (3, 1)
    avatar.stop()


def test_replays_and_their_memory_are_shown(serving: ModuleType) -> None:
    """What healed itself would be nobody's news."""
    metrics = importlib.import_module("pipeline.triton.metrics")
    avatar = AvatarOrchestrator(CONFIG, FakeExecutor(), max_sessions=2, idle_timeout_s=5)
    replayed = ReplayedCalls(NoCalls(), {"dit_stage_0": keep_blocks(1)})  # type: ignore[arg-type]
    shown = metrics.Metrics("live_avatar", avatar, replayed)
    replayed.open(1, {"dit_stage_0": {"motion": np.zeros(3, np.float32)}})
    for tick in range(4):
        replayed.step("dit_stage_0", 1, tick, {"block": np.array([tick])})
    replayed.replays["dit_stage_0"] += 2
    shown.update()
    assert value("replay_bytes") == 12 + 2 * 8
    assert value("replays_total", lost="dit_stage_0") == 2
    replayed.close(1)
    shown.update()
    assert value("replay_bytes") == 0
    avatar.stop()


def test_a_model_that_holds_sessions_shows_their_memory(serving: ModuleType) -> None:
    """Memory that fills would be seen when a session can't be opened any more."""
    metrics = importlib.import_module("pipeline.triton.metrics")
    device = SimpleNamespace(cache_bytes=7)
    size = metrics.CacheSize("live_avatar", device)
    assert value("cache_bytes") == 7
    device.cache_bytes = 14
    size.update()
    assert value("cache_bytes") == 14


def test_a_slow_reader_is_shown_and_no_block_of_his_is_late(serving: ModuleType) -> None:
    """A client that pauses its player would wake somebody."""
    metrics = importlib.import_module("pipeline.triton.metrics")
    avatar = AvatarOrchestrator(
        CONFIG, FakeExecutor(), max_sessions=2, idle_timeout_s=60, unread_blocks=2
    )
    shown = metrics.Metrics("live_avatar", avatar, None)
    talk = submit(avatar, 1, start=True, blocks=4, received=0)
    wait_until(lambda: len(talk.blocks) == 2)
    time.sleep(1.2)  # both have been played
    shown.update()
    assert (value("unread_blocks"), value("backlog_seconds")) == (2, 2 * 0.48)
    submit(avatar, 1, received=2)
    wait_until(lambda: len(talk.blocks) == 4)
    shown.update()
    assert (value("unread_blocks"), value("blocks_late_total")) == (2, 0)
    avatar.stop()


def test_the_worst_session_is_shown_and_how_many_have_drifted(
    serving: ModuleType, avatar: AvatarOrchestrator
) -> None:
    """Nobody watches every face; and an id as a label would make a series of each session."""
    limits = Distances(colour=0.5, sharpness=0.15, identity=0.25)
    drift_metrics = importlib.import_module("pipeline.triton.drift_metrics")
    shown = drift_metrics.DriftMetrics("live_avatar", avatar, limits)
    shown.update()
    assert value("drift_limit", distance="identity") == 0.25
    for session, found in ((1, (0.1, 0.05, 0.3)), (2, (0.2, 0.01, 0.1))):
        assert submit(avatar, session, start=True).wait() == ""
        drift = avatar.sessions[session].drift = Drift(limits)
        drift.distances, drift.is_beyond = Distances(*found), session == 1
    avatar.counts.drifts, avatar.counts.reanchors = 3, 2
    shown.update()
    shown.update()
    worst = [value("drift", distance=name) for name in Distances._fields]
    assert worst == [0.2, 0.05, 0.3]
    assert [value(n) for n in ("sessions_drifted", "drifts_total", "reanchors_total")] == [1, 3, 2]
    avatar.fail_all("the test says so")
    wait_until(lambda: not avatar.sessions)
    shown.update()
    assert value("drift", distance="identity") == 0
    assert value("drifts_total") == 3


def test_degraded_sessions_and_onsets_are_shown(
    serving: ModuleType, avatar: AvatarOrchestrator
) -> None:
    """A face that is a little worse, or slow to answer, would be nobody's business."""
    shown = importlib.import_module("pipeline.triton.live_metrics").LiveMetrics(
        "live_avatar", avatar
    )
    assert submit(avatar, 1, start=True).wait() == ""
    avatar.sessions[1].is_degraded, avatar.counts.degrades = True, 3
    avatar.counts.onsets_s.extend([0.2, 0.3])
    shown.update()
    shown.update()
    assert (value("degraded_sessions"), value("degrades_total")) == (1, 3)
    assert observed("onset_seconds") == [0.2, 0.3]
