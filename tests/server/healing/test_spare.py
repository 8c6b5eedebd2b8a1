"""A server with a spare stage, whose stages die one after the other."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deploy.server.local import LocalServer
from export.repository.assemble import assemble
from tests.server.healing.supervision import pid_of, supervised, until
from tests.server.healing.test_supervisor import is_served, spoken

pytestmark = [pytest.mark.triton, pytest.mark.slow]
DEMO = Path(__file__).parents[3] / "artifacts" / "demo"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("spared")
    repository = assemble(DEMO, folder / "repository", steps="0,1 2,3", spare=True)
    with LocalServer(repository, log_dir=folder / "log") as server:
        yield server


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=lambda fault: fault.name)
def test_a_session_outlives_stages_and_who_stood_in_for_them(
    server: LocalServer, fault: signal.Signals
) -> None:
    """What is loaded anew has other steps now than its name says."""
    wanted, _ = spoken(server, 12)
    with supervised(server) as supervisor:
        for model in ("dit_stage_1", "dit_stage_0", "dit_spare", "dit_stage_1"):
            pid = pid_of(server, model)
            found, gap_s = spoken(server, 12, lambda pid=pid: os.kill(pid, fault))
            print(f"{model}: largest gap {gap_s:.2f} s after {fault.name}")
            np.testing.assert_array_equal(found, wanted)
            assert gap_s < 6  # 1 s on an idle machine
            until(supervisor, True, 20)
        assert is_served(server)
