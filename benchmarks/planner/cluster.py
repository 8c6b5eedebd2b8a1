"""Several servers: who comes, who is refused, how many servers a service level takes.

Sessions arrive by chance (Poisson) and stay for a while. A balancer sends each to a server with a
free place, and one that finds none is refused. Then places are a pool, and Erlang's formula B is
exact whatever the lengths of sessions; the simulation is for spread, and for lengths to be seen.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MOST_SERVERS = 10_000
LENGTHS: dict[str, Callable[[np.random.Generator, float], float]] = {
    "exponential": lambda random, mean: float(random.exponential(mean)),
    "fixed": lambda _, mean: mean,
    "lognormal": lambda random, mean: float(random.lognormal(np.log(mean) - 0.5, 1.0)),
}
"""How long sessions are, around their mean; lognormal ones have many short and a few long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Sessions an hour, and minutes of one in the mean."""

    per_hour: float
    minutes: float

    def __post_init__(self) -> None:
        for name in ("per_hour", "minutes"):
            if not 0 < (value := getattr(self, name)) < float("inf"):
                raise ValueError(f"sessions: {name} is {value}, wanted above 0")

    @property
    def load(self) -> float:
        """Sessions at once, were none refused: in Erlang."""
        return self.per_hour * self.minutes / 60


def refusal_ratio(load: float, places: int) -> float:
    """Erlang B: the share of arrivals that find all places taken."""
    ratio = 1.0
    for place in range(1, places + 1):
        ratio = load * ratio / (place + load * ratio)
    return ratio


def servers_for(demand: Demand, places: int, most_refused: float) -> int:
    """The fewest servers of `places` that refuse no more than the share `most_refused`."""
    if places < 1:
        raise ValueError("a server has no place for a session that keeps its time: no number helps")
    if not 0 < most_refused < 1:
        raise ValueError(f"refused is {most_refused}, wanted above 0 and below 1")
    for servers in range(1, MOST_SERVERS + 1):
        if refusal_ratio(demand.load, servers * places) <= most_refused:
            return servers
    raise ValueError(f"more than {MOST_SERVERS} servers of {places} places for {demand}")


def refused_by_chance(
    demand: Demand,
    places: int,
    *,
    arrivals: int = 20_000,
    lengths: str = "exponential",
    seed: int = 0,
) -> float:
    """The share of `arrivals` that is refused, simulated; the first tenth fills the places."""
    random = np.random.default_rng(seed)
    ends: list[float] = []
    now, refused, counted = 0.0, 0, 0
    for arrival in range(arrivals):
        now += float(random.exponential(60 / demand.per_hour))
        while ends and ends[0] <= now:
            heapq.heappop(ends)
        is_full = len(ends) >= places
        if arrival >= arrivals // 10:
            refused, counted = refused + is_full, counted + 1
        if not is_full:
            heapq.heappush(ends, now + LENGTHS[lengths](random, demand.minutes))
    return refused / counted
