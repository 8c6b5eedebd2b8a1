"""The phases of a session: what may follow what, and what each of them means."""

import itertools

import pytest

from pipeline.avatar.session import AvatarSession
from pipeline.sessions.session import MOVES, Phase
from tests.support.fake_executor import CONFIG, request

ALLOWED = {
    (Phase.STARTING, Phase.STARTING_ENDED),  # END came with START, or before the models were ready
    (Phase.STARTING, Phase.OPEN),
    (Phase.STARTING, Phase.LEAVING),
    (Phase.STARTING_ENDED, Phase.ENDED),
    (Phase.STARTING_ENDED, Phase.LEAVING),
    (Phase.OPEN, Phase.ENDED),
    (Phase.OPEN, Phase.CLOSING),
    (Phase.ENDED, Phase.CLOSING),
    (Phase.LEAVING, Phase.CLOSING),
}


def session_in(phase: Phase) -> AvatarSession:
    session = AvatarSession(request=request(7, start=True), config=CONFIG, last_seen=0.0)
    session.phase = phase
    return session


@pytest.mark.parametrize(("one", "other"), list(itertools.product(Phase, Phase)))
def test_only_allowed_moves_are_made(one: Phase, other: Phase) -> None:
    """A session freed twice, or opened after its end, would hold a place for ever."""
    session = session_in(one)
    if (one, other) in ALLOWED:
        session.move(other)
        assert session.phase is other
    else:
        with pytest.raises(RuntimeError, match=f"7 can't go from {one.name} to {other.name}"):
            session.move(other)
        assert session.phase is one


def test_every_phase_leads_to_the_end() -> None:
    """One that doesn't would keep its place."""
    for phase in Phase:
        reached = {phase}
        while (more := reached.union(*(MOVES[p] for p in reached))) != reached:
            reached = more
        assert Phase.CLOSING in reached


@pytest.mark.parametrize("phase", Phase)
def test_a_phase_means_one_thing(phase: Phase) -> None:
    """Work for a session that no model holds would fail; input behind END would be lost."""
    assert phase.is_started == (phase in (Phase.OPEN, Phase.ENDED))
    assert phase.takes_input == (phase in (Phase.STARTING, Phase.OPEN))
    assert phase.is_closing == (phase in (Phase.LEAVING, Phase.CLOSING))


def test_an_end_that_comes_early_holds_when_the_models_are_ready() -> None:
    """The last block's request would never become final."""
    session = session_in(Phase.STARTING)
    session.end()
    session.start()
    assert session.phase is Phase.ENDED
