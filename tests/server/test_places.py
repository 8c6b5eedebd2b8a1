"""After every failure of a client both places of the real server are free within a second."""

import re
from pathlib import Path

import pytest

from deploy.server.local import LocalServer
from tests.support.client_failures import WAYS
from tests.support.raw_stream import wait_until_free

pytestmark = pytest.mark.triton
PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"
LIMIT_S = 1.0


def fail_and_measure(server: LocalServer, way: str, times: int) -> list[float]:
    """Seconds from each failure until both places were free, the client's own closing included."""
    taken = []
    for _ in range(times):
        failed_s = WAYS[way](server.grpc_url)
        taken.append(wait_until_free(server, since_s=failed_s))
    return taken


@pytest.mark.parametrize("way", WAYS)
def test_places_are_free_within_a_second_after(server: LocalServer, way: str) -> None:
    """Both stay taken for the idle limit of 10 s: the next visitor is refused."""
    assert max(fail_and_measure(server, way, 2)) < 2 * LIMIT_S  # beside other tests


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_places_are_free_ten_times_in_a_row_after(server: LocalServer, way: str) -> None:
    """One failure in ten that keeps a place would empty a server within the hour."""
    taken = fail_and_measure(server, way, 10)
    print(f"{way}: {' '.join(f'{seconds:.2f}' for seconds in taken)} s")
    assert max(taken) < LIMIT_S


def test_the_guide_names_every_way() -> None:
    """A reader would not know what has been tried."""
    rows = re.findall(r"^\| (.+?) \| .*\|$", PROTOCOL.read_text(), re.MULTILINE)
    assert set(WAYS) <= set(rows)
