"""The real server, once for all tests that need it; the orchestrator on models that only count."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.server.local import LocalServer
from pipeline.avatar.orchestrator import AvatarOrchestrator
from tests.support import quick
from tests.support.fake_executor import CONFIG, FakeExecutor

ROOT = Path(__file__).parents[1]

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's background job: tests send it
    signal.signal(signal.SIGINT, signal.default_int_handler)

if "PYTEST_XDIST_WORKER" in os.environ:  # side by side: a core for each, as PyTorch loads
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="pure logic and fakes: under a minute")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--quick"):
        quick.refuse_torch_and_server()
        config.option.markexpr = config.option.markexpr or quick.MARKERS


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """The demo preset behind tritonserver, on free ports."""
    from export.repository.assemble import assemble

    folder = tmp_path_factory.mktemp("server")
    assemble(ROOT / "artifacts" / "demo", folder / "repository")
    with LocalServer(folder / "repository", log_dir=folder) as running:
        yield running


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Of PyTorch: more gain nothing on small tensors."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def executor() -> FakeExecutor:
    """Models that only count."""
    return FakeExecutor()


@pytest.fixture
def avatar(executor: FakeExecutor) -> Iterator[AvatarOrchestrator]:
    """The orchestrator of these."""
    avatar = AvatarOrchestrator(CONFIG, executor, max_sessions=2, idle_timeout_s=0.5)
    yield avatar
    avatar.stop()


@pytest.fixture
def proxies(monkeypatch: pytest.MonkeyPatch) -> str:
    """Every proxy variable is set, to this address, which is nobody's."""
    nobody = "http://no.such.proxy.invalid:1"
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"):
        monkeypatch.setenv(name, nobody)
        monkeypatch.setenv(name.upper(), nobody)
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    return nobody
