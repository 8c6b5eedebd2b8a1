"""Whom a START meets: a server that is drained, or one whose encoders are on their way back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.avatar import executor
from pipeline.avatar.executor import CONDITIONING, ENCODERS, AvatarExecutor
from tests.support.fake_executor import CONFIG

TEXT, VAE = ENCODERS


class Loads:
    """Which models are loaded, one set for each look at `conditioning`; the last one stays."""

    def __init__(self, *states: set[str]) -> None:
        self.states: Iterator[set[str]] = iter(states)
        self.now: set[str] = set()

    def ready(self) -> None: ...

    def is_loaded(self, model: str) -> bool:
        if model == CONDITIONING:
            self.now = next(self.states, self.now)
        return model in self.now


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "SETTLE_S", 0.001)


def awaited(*states: set[str]) -> None:
    calls: Any = Loads(*states)
    AvatarExecutor(CONFIG, ["dit_stage_0"], Path(), calls)._await_conditioning()


def test_a_start_waits_for_an_encoder() -> None:
    """Its client would go to another server, and there may be none."""
    whole = {*ENCODERS, CONDITIONING}
    awaited(whole)
    awaited({VAE}, {TEXT}, {VAE}, {*ENCODERS}, whole)


def test_a_start_at_a_drained_server_is_refused() -> None:
    """It would not end while sessions still come."""
    with pytest.raises(RuntimeError, match="it is being drained; try another server"):
        awaited({*ENCODERS})


def test_an_encoder_that_stays_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client would wait for ever."""
    monkeypatch.setattr(executor, "RECOVERY_S", 0.01)
    with pytest.raises(RuntimeError, match="text_encoder is away; try again later"):
        awaited({VAE})
