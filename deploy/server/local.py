"""A Triton server for a model repository, on free ports; it ends with who started it."""

import json
import os
import secrets
import subprocess
import time
from dataclasses import KW_ONLY, asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from deploy import checkout
from deploy.downloads import triton
from deploy.outcome import say
from deploy.server import admin, folder, launch, log, open_files, process
from deploy.server.health import all_ready
from deploy.server.ports import ADDRESS, Ports, check_address, check_ports, free_ports, grpc_url
from deploy.server.tls import TlsFiles

EXAMINATION = "pipeline/identity/examination.py"  # in every public model that examines others
KILL_MARGIN_S = 3  # the server's own exit takes up to this much longer than its exit timeout


def server_left_running() -> tuple[str, Path] | None:
    """Of the server of `make serve`, if one runs: its gRPC address and its repository.
    `RuntimeError` if it is not ready."""
    state = folder.running_server()
    if state is None:
        return None
    ports = Ports(**state["ports"])
    if not all_ready(ports, admin.read_key(folder.LOG_DIR)):
        raise RuntimeError("the server of make serve is not ready.\n  Fix: make stop")
    say(f"using the server on gRPC port {ports.grpc}")
    url = grpc_url(state["grpc_address"], ports.grpc, is_encrypted=bool(state["tls"]))
    return url, Path(state["repository"])


@dataclass(eq=False)
class LocalServer:
    """One `tritonserver` with its Python stubs.

    log_dir: gets `server.log` and `server.json`, of one server at a time. config:
    `configs/<config>.pbtxt` of each model, where it exists, replaces its `config.pbtxt`. python:
    interpreter that runs the models. outlives_us: only `stop` ends the server, not the end of this
    process. grpc_address: of the interface that gRPC listens on, which must be the loopback one
    without `tls`. address: of metrics, and of gRPC if that has none of its own; it is plain there,
    so only a proxy may reach it. HTTP, which can unload models, is for this machine alone. home: a
    Triton that is installed, such as a container's /opt/tritonserver; else the one that `make
    fetch` unpacks. trace_url: gets traces of requests and blocks, such as
    http://HOST:4318/v1/traces.
    """

    repository: Path
    _: KW_ONLY
    log_dir: Path
    ports: Ports = field(default_factory=free_ports)
    config: str = "cpu"
    python: str = field(default_factory=checkout.default_python)
    address: str = ADDRESS
    home: Path | None = None
    start_timeout_s: float = 180.0
    exit_timeout_s: int = 5
    outlives_us: bool = False
    grpc_address: str = ADDRESS
    tls: TlsFiles | None = None
    trace_url: str = ""

    def __post_init__(self) -> None:
        check_address(self.grpc_address, is_encrypted=self.tls is not None)
        self.repository = Path(self.repository).resolve()
        self.log_dir = Path(self.log_dir).resolve()
        self.token = f"avatar_{secrets.token_hex(6)}_"
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._held_folder: int | None = None

    @property
    def grpc_url(self) -> str:
        return grpc_url(self.grpc_address, self.ports.grpc, is_encrypted=self.tls is not None)

    @property
    def admin_key(self) -> str:
        """Of `deploy.server.admin`; a new one with each start."""
        return admin.read_key(self.log_dir)

    @property
    def admin_headers(self) -> dict[str, str]:
        """Of a gRPC call that loads a model, or does another thing of operators."""
        return {admin.GRPC_HEADER: self.admin_key}

    @property
    def log(self) -> Path:
        return self.log_dir / "server.log"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the server is not started")
        return self._process.pid

    def stub_pids(self) -> list[int]:
        """The processes that run the Python models, one per instance."""
        return process.stub_pids(self.token, self.pid)

    def start(self) -> Self:
        """Start the server; return when every model is ready.

        `RuntimeError` says why it cannot: a missing download, an unsuitable Python, a taken port,
        another server in `log_dir`, the words of the model that failed to load, or those of the
        public model whose models don't belong together.
        """
        if self._process is not None:
            raise RuntimeError("the server is started already")
        facts = self._check()
        try:
            self._launch(facts)
            self._await_ready()
        except BaseException:  # a Ctrl-C must not leave a half-started server either
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server and its stubs, free its ports and shared memory. Twice does no harm."""
        if self._process is not None:
            process.end(self.pid, self.token, self.exit_timeout_s + KILL_MARGIN_S)
            self._process.wait()
            self._process = None
            folder.clear(self.log_dir)
        if self._guard is not None:
            assert self._guard.stdin
            self._guard.stdin.close()
            self._guard.wait()
            self._guard = None
        self.let_go()

    def let_go(self) -> None:
        """Free the working folder for the next server, as the end of this process would."""
        if self._held_folder is not None:
            os.close(self._held_folder)
            self._held_folder = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _check(self) -> dict[str, Any]:
        """What `inspect_python` says, if everything that a start needs is there."""
        checkout.check_writable(self.log_dir)
        if not any(self.repository.glob("*/config.pbtxt")):
            raise RuntimeError(f"no model lies in {self.repository}.\n  Fix: make repository")
        if self.home is None and not triton.is_fetched():
            raise RuntimeError("the Triton server is not downloaded.\n  Fix: make fetch")
        facts = launch.inspect_python(self.python)
        stub = self._backends(facts) / "python" / triton.STUB_NAME
        if not stub.exists():
            raise RuntimeError(
                f"the Triton server has no helper for Python {facts['version']} ({stub}).\n"
                "  Fix: make clean fetch"
            )
        open_files.check()
        check_ports(self.ports)
        return facts

    def _backends(self, facts: dict[str, Any]) -> Path:
        if self.home is not None:
            return self.home / "backends"
        return triton.backend_directory(triton.HOME, facts["version"])

    def _launch(self, facts: dict[str, Any]) -> None:
        self._held_folder = folder.take(self.log_dir)
        key = admin.make_key(self.log_dir)
        models, backends = (self.log_dir / name for name in folder.LINKS)
        directory = self._backends(facts)
        command = launch.command(
            home=self.home,
            address=self.address,
            repository=folder.spelled(self.repository, models),
            backends=folder.spelled(directory, backends),
            ports=self.ports,
            config=self.config,
            token=self.token,
            exit_timeout_s=self.exit_timeout_s,
            admin_key=key,
            grpc_address=self.address if self.grpc_address == ADDRESS else self.grpc_address,
            tls=self.tls,
            trace_url=self.trace_url,
        )
        if self.log.exists():  # a server that is still ending writes to the old one
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("wb") as said, open_files.raised():
            self._process = subprocess.Popen(
                command,
                cwd=self.log_dir,  # a stub imports from here before it looks into its model
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                env=launch.environment(self.python, facts["libpython_dir"], key, self.trace_url),
                start_new_session=True,  # a Ctrl-C in the terminal is ours to handle
            )
        if not self.outlives_us:
            timeout_s = self.exit_timeout_s + KILL_MARGIN_S
            self._guard = process.guard(self.pid, self.token, timeout_s)
        state = {"pid": self.pid, "token": self.token, "exit_timeout_s": self.exit_timeout_s}
        state |= {"repository": str(self.repository), "ports": asdict(self.ports)}
        state |= {"config": self.config, "grpc_address": self.grpc_address}
        state |= {"tls": self.tls.texts() if self.tls else {}}
        state |= {"address": self.address}
        state |= {"home": self.home and str(self.home), "start_timeout_s": self.start_timeout_s}
        state |= {"trace_url": self.trace_url}
        (self.log_dir / folder.STATE_FILE).write_text(json.dumps(state, indent=1) + "\n")

    def _await_ready(self) -> None:
        deadline = time.monotonic() + self.start_timeout_s
        while not (self._agreed() and all_ready(self.ports, self.admin_key)):
            assert self._process
            if self._process.poll() is not None:
                raise self._failure("the Triton server ended while starting")
            if time.monotonic() > deadline:
                raise self._failure(f"the models were not ready after {self.start_timeout_s:g} s")
            time.sleep(0.05)

    def _failure(self, what: str) -> RuntimeError:
        return RuntimeError(f"{what}:\n{log.failure(self.log)}\n  The whole log: {self.log}")

    def _agreed(self) -> bool:
        """Whether every public model has found that the models it calls belong together.
        `RuntimeError` when all have looked and one has not."""
        verdicts = log.verdicts(self.log)
        for name in log.EXAMINERS:
            if name not in verdicts and any(self.repository.glob(f"{name}/*/{EXAMINATION}")):
                return False
        if refusals := [f"{name}: {words}" for name, words in verdicts.items() if words]:
            raise RuntimeError("\n".join([*refusals, f"  The whole log: {self.log}"]))
        return True
