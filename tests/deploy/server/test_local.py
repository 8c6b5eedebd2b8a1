"""The life of the local Triton server, seen on the real one with tiny Python models."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient import grpc

from deploy.server import folder as log_folder
from deploy.server import ports as tcp
from deploy.server import process
from deploy.server.health import CHANNEL_ARGS, all_ready
from deploy.server.local import LocalServer
from tests.support.programs import needs_fetched_server
from tests.support.waiting import happens

REPO = Path(__file__).resolve().parents[3]
needs_server = [pytest.mark.triton, needs_fetched_server]

ODD = 'q"(x); `y` \\\\ #*?~&|<>![]{}%,:='

CONFIG = """backend: "python"
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ -1 ] } ]
parameters { key: "device" value: { string_value: "DEVICE" } }
"""
DOUBLING = """import time
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        xs = [pb_utils.get_input_tensor_by_name(r, "x").as_numpy() for r in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x * 2)]) for x in xs]
"""
STUBBORN = DOUBLING + "\n    def finalize(self):\n        time.sleep(60)\n"
DEAD = 'raise ValueError("the weights are missing")\n'


def write_model(repository: Path, name: str, code: str) -> Path:
    """A Python model with a configs/cpu.pbtxt that differs from its config.pbtxt."""
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "configs").mkdir()
    (repository / name / "1" / "model.py").write_text(code)
    (repository / name / "config.pbtxt").write_text(CONFIG.replace("DEVICE", "gpu"))
    (repository / name / "configs" / "cpu.pbtxt").write_text(CONFIG.replace("DEVICE", "cpu"))
    return repository


def double(server: LocalServer) -> list[float]:
    tensor = grpc.InferInput("x", [3], "FP32")
    tensor.set_data_from_numpy(np.arange(3, dtype=np.float32))
    with grpc.InferenceServerClient(server.grpc_url, channel_args=CHANNEL_ARGS) as client:
        return client.infer("doubling", [tensor]).as_numpy("y").tolist()


def shared_memory(token: str) -> list[Path]:
    return list(Path("/dev/shm").glob(f"{token}*"))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("repository"), "doubling", DOUBLING)


@pytest.fixture(scope="module")
def doubler(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with LocalServer(repository, log_dir=tmp_path_factory.mktemp("log")) as server:
        yield server


@pytest.mark.triton
@needs_fetched_server
def test_a_model_imports_what_lies_beside_it_and_not_where_the_server_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server started in a checkout would run the checkout's code, not the repository's."""
    code = DOUBLING.replace("import time\n", "import time\nimport beside\n")
    repository = write_model(tmp_path / "repository", "doubling", code)
    (repository / "doubling" / "1" / "beside.py").write_text("")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "beside.py").write_text("raise ValueError('the wrong file')\n")
    monkeypatch.chdir(tmp_path / "here")
    with LocalServer(repository, log_dir=tmp_path / "log") as server:
        assert double(server) == [0.0, 2.0, 4.0]


@pytest.mark.triton
@needs_fetched_server
@pytest.mark.parametrize("name", ["a b", "é", "it's", "$HOME", "a\nb", ODD], ids=ascii)
def test_a_repository_in_a_folder_of_any_name_is_served(tmp_path: Path, name: str) -> None:
    """The backend starts a model by a line of bash without quotes, and reads paths as ASCII."""
    repository = write_model(tmp_path / name / "repository", "doubling", DOUBLING)
    log_dir = tmp_path / name / "log"
    with LocalServer(repository, log_dir=log_dir, start_timeout_s=60) as server:
        assert double(server) == [0.0, 2.0, 4.0]
    assert [path.name for path in log_dir.iterdir()] == ["server.log"]


class TestRunning:
    """One server for the facts that leave it as it is."""

    pytestmark = needs_server

    def test_answers(self, doubler: LocalServer) -> None:
        """Zeros or nothing here means a wrong numpy or a wrong Python in the model's process."""
        assert double(doubler) == [0.0, 2.0, 4.0]

    def test_is_reached_past_any_proxy(self, doubler: LocalServer, proxies: str) -> None:
        """gRPC takes http_proxy for loopback addresses, too."""
        assert double(doubler) == [0.0, 2.0, 4.0]
        assert all_ready(doubler.ports, doubler.admin_key)

    def test_takes_the_config_for_this_machine(self, doubler: LocalServer) -> None:
        """Without configs/cpu.pbtxt the models ask for GPUs that are not there."""
        with grpc.InferenceServerClient(doubler.grpc_url, channel_args=CHANNEL_ARGS) as client:
            config = client.get_model_config("doubling", as_json=True)["config"]
        assert config["parameters"]["device"]["string_value"] == "cpu"

    def test_reloads_a_model_whose_process_was_killed(self, doubler: LocalServer) -> None:
        """The only recovery from a dead stub; it needs the explicit model control."""
        (stub,) = doubler.stub_pids()
        os.kill(stub, signal.SIGKILL)
        with grpc.InferenceServerClient(doubler.grpc_url, channel_args=CHANNEL_ARGS) as client:
            client.unload_model("doubling", headers=doubler.admin_headers)
            assert happens(lambda: not client.is_model_ready("doubling"), within_s=10)
            client.load_model("doubling", headers=doubler.admin_headers)
        assert double(doubler) == [0.0, 2.0, 4.0]
        assert doubler.stub_pids() != [stub]

    def test_second_server_lives_beside_it(
        self, doubler: LocalServer, repository: Path, tmp_path: Path
    ) -> None:
        """Two servers that shared a port or shared memory would end each other's models."""
        with LocalServer(repository, log_dir=tmp_path) as second:
            assert double(second) == double(doubler) == [0.0, 2.0, 4.0]
            assert not set(second.stub_pids()) & set(doubler.stub_pids())
        assert double(doubler) == [0.0, 2.0, 4.0]

    def test_its_port_is_refused_to_another_with_the_fix(
        self, doubler: LocalServer, repository: Path, tmp_path: Path
    ) -> None:
        """Triton's own message comes after loading all models, and gives no fix."""
        second = LocalServer(repository, log_dir=tmp_path, ports=doubler.ports)
        with pytest.raises(RuntimeError, match=r"make serve GRPC_PORT=\d+ HTTP_PORT=\d+"):
            second.start()

    def test_a_second_server_in_its_log_folder_is_refused_and_changes_nothing(
        self, doubler: LocalServer, repository: Path
    ) -> None:
        """It would empty the log, read the first one's verdict there, and take its links away."""
        links = [doubler.log_dir / name for name in log_folder.LINKS]
        for link in links:  # as for a repository in a folder with a space
            link.symlink_to(repository)
        before = doubler.log.read_bytes()
        second = LocalServer(repository, log_dir=doubler.log_dir)
        with pytest.raises(RuntimeError, match=r"another server that writes its log to .*: wait"):
            second.start()
        second.stop()
        assert doubler.log.read_bytes()[: len(before)] == before
        assert (doubler.log_dir / "server.json").exists()
        assert all(link.is_symlink() for link in links)
        for link in links:
            link.unlink()


@pytest.mark.parametrize("is_left_running", [False, True], ids=["starting", "left running"])
def test_a_log_folder_belongs_to_one_server_at_a_time(
    tmp_path: Path, is_left_running: bool
) -> None:
    """Also to one that `make serve` left, whose starter is gone."""
    folder = tmp_path / "new" / "log"
    held = log_folder.take(folder)
    if is_left_running:
        os.close(held)
        state = {"pid": os.getpid(), "token": Path(sys.executable).name, "ports": {"grpc": 8001}}
        (folder / "server.json").write_text(json.dumps(state))
    words = "gRPC port 8001 .* runs already" if is_left_running else "is starting or runs"
    with pytest.raises(RuntimeError, match=words):
        log_folder.take(folder)
    if is_left_running:
        (folder / "server.json").unlink()
    else:
        os.close(held)
    os.close(log_folder.take(folder))


class TestEnding:
    pytestmark = needs_server

    def test_a_verdict_of_a_server_before_is_not_read(
        self, repository: Path, tmp_path: Path
    ) -> None:
        """One that is still ending, since its starter was killed, writes to the log it opened."""
        with (
            (tmp_path / "server.log").open("w") as old,
            LocalServer(repository, log_dir=tmp_path) as server,
        ):
            old.write('2026-01-31T12:00:00Z I 1 a.cc:1] "live_avatar: its models belong')
            old.flush()
            assert "belong" not in server.log.read_text()

    def test_stop_leaves_nothing_behind(self, repository: Path, tmp_path: Path) -> None:
        """Left-over shared memory fills a container's 64 MB after a few runs."""
        server = LocalServer(repository, log_dir=tmp_path).start()
        pids = [server.pid, *server.stub_pids()]
        assert len(pids) == 2
        assert shared_memory(server.token)
        server.stop()
        assert not any(process.is_alive(pid, server.token) for pid in pids)
        assert shared_memory(server.token) == []
        assert [path.name for path in tmp_path.iterdir()] == ["server.log"]
        tcp.check_ports(server.ports)  # raises if one is still taken
        server.stop()  # a second time does no harm

    def test_stop_kills_a_model_that_does_not_finish(self, tmp_path: Path) -> None:
        """A model that hangs in finalize must not make a test run hang."""
        repository = write_model(tmp_path / "repository", "stubborn", STUBBORN)
        server = LocalServer(repository, log_dir=tmp_path / "log", exit_timeout_s=1).start()
        pids = [server.pid, *server.stub_pids()]
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 15  # 1 s and the margin for the kill, on a busy machine
        assert happens(lambda: not any(process.is_alive(pid, server.token) for pid in pids), 5)
        assert shared_memory(server.token) == []

    def test_server_ends_with_the_process_that_started_it(
        self, repository: Path, tmp_path: Path
    ) -> None:
        """A killed test run would leave servers that eat the machine's memory."""
        code = (
            "import os, signal, sys, pathlib\n"
            "from deploy.server.local import LocalServer\n"
            "server = LocalServer(pathlib.Path(sys.argv[1]), log_dir=sys.argv[2]).start()\n"
            "print(server.pid, server.token, flush=True)\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        starter = subprocess.run(
            [sys.executable, "-c", code, str(repository), str(tmp_path)],
            cwd=REPO,
            stdout=subprocess.PIPE,
            text=True,
        )
        pid, token = starter.stdout.split()
        assert starter.returncode == -signal.SIGKILL
        assert happens(lambda: not process.is_alive(int(pid), token), within_s=20)
        assert happens(lambda: not shared_memory(token), within_s=5)

    def test_failing_model_speaks_for_itself(self, tmp_path: Path) -> None:
        """Triton says "failed to load all models"; the cause is buried in a long log."""
        repository = write_model(tmp_path / "repository", "dead", DEAD)
        server = LocalServer(repository, log_dir=tmp_path / "log")
        with pytest.raises(RuntimeError, match=r"'dead'.*the weights are missing"):
            server.start()
        assert shared_memory(server.token) == []
        assert not (tmp_path / "log" / "server.json").exists()


def command_line(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy.server", *arguments]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True)


class TestCommandLine:
    pytestmark = needs_server

    def test_start_status_stop(self, repository: Path, tmp_path: Path) -> None:
        """`make serve` must leave a server that `make stop` of another process finds."""
        here = ("--log-dir", str(tmp_path))
        ports = tcp.free_ports()
        where = ["--repository", str(repository), f"--grpc-port={ports.grpc}"]
        where += [f"--http-port={ports.http}", f"--metrics-port={ports.metrics}"]
        try:
            started = command_line(*here, "start", *where)
            assert started.returncode == 0, started.stderr
            assert command_line(*here, "wait", "--timeout-s=5").returncode == 0
            assert command_line(*here, "status").returncode == 0
            again = command_line(*here, "start", *where)
            assert again.returncode == 1
            assert "runs already" in again.stderr
        finally:
            stopped = command_line(*here, "stop")
        assert "is stopped" in stopped.stderr
        assert command_line(*here, "status").returncode == 3
