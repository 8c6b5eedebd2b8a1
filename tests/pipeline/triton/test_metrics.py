"""What a public model shows of itself on the metrics endpoint."""

import importlib
from types import ModuleType

from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.avatar.request import ANY_BLOCK
from tests.pipeline.triton.conftest import MetricFamily
from tests.support.fake_executor import CONFIG, FakeExecutor, submit, wait_until

MODEL = ("model", "live_avatar")


def value(name: str, **labels: str) -> float:
    key = tuple(sorted((MODEL, *labels.items())))
    return MetricFamily.all[f"avatar_{name}"].metrics[key].value  # type: ignore[no-any-return]


def observed(name: str) -> list[float]:
    return MetricFamily.all[f"avatar_{name}"].metrics[(MODEL,)].observed  # type: ignore[no-any-return]


def test_sessions_blocks_and_times_are_counted(serving: ModuleType) -> None:
    """Nobody could tell a full server from a broken one."""
    metrics = importlib.import_module("pipeline.triton.metrics")
    avatar = AvatarOrchestrator(CONFIG, FakeExecutor(0.001), max_sessions=2, idle_timeout_s=5)
    shown = metrics.Metrics("live_avatar", avatar)
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
