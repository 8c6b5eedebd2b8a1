"""Servers for a service level: Erlang's formula, chance, and words."""

import pytest

from benchmarks.planner.cluster import (
    LENGTHS,
    Demand,
    refusal_ratio,
    refused_by_chance,
    servers_for,
)


@pytest.mark.parametrize(
    ("load", "places", "refused"), [(1, 1, 0.5), (2, 2, 0.4), (10, 10, 0.2146), (5, 10, 0.0184)]
)
def test_refusals_are_those_of_the_tables(load: float, places: int, refused: float) -> None:
    """Erlang B, as printed in any textbook."""
    assert refusal_ratio(load, places) == pytest.approx(refused, abs=5e-5)


@pytest.mark.parametrize("lengths", LENGTHS)
def test_chance_agrees_with_the_formula_whatever_the_lengths(lengths: str) -> None:
    """20,000 arrivals: two standard deviations are about 0.006, lognormal lengths spread more."""
    demand = Demand(per_hour=600, minutes=1)
    found = refused_by_chance(demand, 12, lengths=lengths)
    assert found == pytest.approx(refusal_ratio(10, 12), abs=0.02)


def test_the_fewest_servers_reach_the_level_and_one_less_does_not() -> None:
    demand = Demand(per_hour=200, minutes=5)
    servers = servers_for(demand, places=2, most_refused=0.01)
    assert refusal_ratio(demand.load, 2 * servers) <= 0.01
    assert refusal_ratio(demand.load, 2 * (servers - 1)) > 0.01


def test_what_cannot_be_planned_is_said_in_words() -> None:
    demand = Demand(per_hour=10, minutes=5)
    with pytest.raises(ValueError, match="no place for a session that keeps its time"):
        servers_for(demand, 0, 0.01)
    with pytest.raises(ValueError, match=r"refused is 1\.5, wanted above 0 and below 1"):
        servers_for(demand, 1, 1.5)
    with pytest.raises(ValueError, match="minutes is -1, wanted above 0"):
        Demand(per_hour=10, minutes=-1)
