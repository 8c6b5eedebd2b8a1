"""Alerts, rules and the dashboard name what is there. tests/server/monitoring asks for it."""

import importlib
import json
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml

from deploy.monitoring import dashboard
from deploy.server.healing import Healing
from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.sessions.drift import Distances
from tests.deploy.monitoring.expressions import ALERTS, FOLDER, RULES, expressions, metrics_in
from tests.pipeline.triton.conftest import MetricFamily, serving  # noqa: F401 - a fixture

ROOT = Path(__file__).parents[3]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
OF_TRITON = {"up", "nv_inference_request_failure"}  # `up` is Prometheus' own
ALERT_TESTS = yaml.safe_load((FOLDER / "alerts.test.yaml").read_text())["tests"]


@pytest.fixture
def shown(serving: ModuleType, avatar: AvatarOrchestrator) -> set[str]:  # noqa: F811
    """Every metric of ours."""
    metrics = importlib.import_module("pipeline.triton.metrics")
    metrics.Metrics("live_avatar", avatar, None)
    drift = importlib.import_module("pipeline.triton.drift_metrics")
    drift.DriftMetrics("live_avatar", avatar, Distances(1.0, 1.0, 1.0))
    live = importlib.import_module("pipeline.triton.live_metrics")
    live.LiveMetrics("live_avatar", avatar)
    metrics.CacheSize("vae_decoder", SimpleNamespace(cache_bytes=0))
    page = Healing().exposed({}, "")
    return {*MetricFamily.all, *re.findall(r"^# TYPE (\S+)", page, re.MULTILINE)}


def test_every_metric_that_is_asked_for_is_there(shown: set[str]) -> None:
    """A metric that was renamed leaves an alert that never fires."""
    recorded = {rule["record"] for rule in RULES}
    known = shown | OF_TRITON | recorded
    asked = {name: metrics_in(expression) for name, expression in expressions().items()}
    assert all(asked.values())
    unknown = {
        f"{name}: {metric}"
        for name, metrics in asked.items()
        for metric in metrics
        if re.sub(r"_bucket$", "", metric) not in known
    }
    assert unknown == set()


def test_every_metric_of_ours_is_explained_and_drawn(shown: set[str]) -> None:
    """Who sees a figure would not know what it means."""
    explained = set()
    for row in re.findall(r"^\| (`avatar_.*?) \|", OPERATIONS, re.MULTILINE):
        first, *others = re.findall(r"`(\w+)`", row)
        stems = [first[: first.rfind(cut) + len(cut)] for cut in ("avatar_", "sessions_")]
        explained |= {first, *others, *(f"{s.rstrip('_')}{o}" for s in stems for o in others)}
    assert shown - explained == set()
    drawn = {name for expression in expressions().values() for name in metrics_in(expression)}
    assert {m for m in shown if m not in drawn and f"{m}_bucket" not in drawn} == set()


@pytest.mark.parametrize("alert", [alert["alert"] for alert in ALERTS])
def test_every_alert_has_a_section_in_the_runbook(alert: str) -> None:
    """Who is woken at three would have to think for himself."""
    assert f"\n### {alert}\n" in RUNBOOK
    (rule,) = [rule for rule in ALERTS if rule["alert"] == alert]
    assert rule["annotations"]["runbook"] == f"docs/runbook.md#{alert.lower()}"
    assert rule["labels"]["severity"] in ("critical", "warning")


@pytest.mark.parametrize("alert", [alert["alert"] for alert in ALERTS])
def test_every_alert_is_tested_loud_and_quiet(alert: str) -> None:
    """One that always fires is as bad as one that never does."""
    cases = [c for t in ALERT_TESTS for c in t["alert_rule_test"] if c["alertname"] == alert]
    assert {bool(case["exp_alerts"]) for case in cases} == {True, False}


def test_the_runbook_has_no_section_of_an_alert_that_is_gone() -> None:
    """It would be followed."""
    names = set(re.findall(r"^### (Avatar\w+)$", RUNBOOK, re.MULTILINE))
    assert names == {alert["alert"] for alert in ALERTS}


def test_the_dashboard_is_what_its_code_makes() -> None:
    """Grafana would show the one of before."""
    assert json.loads(dashboard.FILE.read_text()) == dashboard.built()
