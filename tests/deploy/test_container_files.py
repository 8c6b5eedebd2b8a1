"""The container's files, read only: no container runtime is in reach to build or start them."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from deploy import doctor
from tests.support.programs import needs_program

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())


def instructions() -> list[tuple[str, str]]:
    """Instruction and arguments, continued lines joined."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found = [re.match(r"([A-Z]+) +(.*)", line) for line in joined.splitlines() if line.strip()]
    assert all(found), "a line that is no instruction"
    return [(match[1], match[2]) for match in found if match]


def arguments(name: str) -> list[str]:
    return [text for instruction, text in instructions() if instruction == name]


def test_the_base_image_is_pinned_and_new_enough() -> None:
    """Before 26.11 a gRPC stream may stop under backpressure; `latest` may be anything."""
    (image,) = (a.split("=", 1)[1] for a in arguments("ARG") if a.startswith("TRITON_IMAGE"))
    version = re.fullmatch(r"nvcr.io/nvidia/tritonserver:(\d+)\.(\d+)-py3", image)
    assert version, image
    year, month = map(int, version.groups())
    assert (year, month) >= (26, 11)
    assert arguments("FROM") == ["${TRITON_IMAGE}"]


@pytest.mark.parametrize(
    ("library", "image", "wanted"),
    [
        ((11, 4, 0), "11.5.0.1+cuda13.4", "11.4.0"),
        (None, "11.4.0.106+cuda13.4", "11.4.0.106"),
        (None, "", None),
    ],
)
def test_the_bindings_are_of_the_version_of_the_library(
    library: tuple[int, int, int] | None, image: str, wanted: str | None
) -> None:
    """Others load and fail at the first call; an image may lack `libnvinfer.so`, a file of the
    development package."""
    (run,) = (text for text in arguments("RUN") if "pip install" in text)
    steps = [step for step in run.split("&& ") if re.match(r'version=|: "', step)]
    assert len(steps) == 3
    found = f"from deploy import doctor; doctor.tensorrt_version = lambda: {library}"
    steps[0] = steps[0].replace("'from deploy", f"'{found}; from deploy")
    script = " && ".join([*steps, 'echo "$version"'])
    environment = {**os.environ, "TRT_VERSION": image}
    done = subprocess.run(
        ["sh", "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert (done.stdout.strip() or None) == wanted, done.stderr
    assert wanted or "neither libnvinfer nor TRT_VERSION" in done.stderr


def test_the_base_image_can_be_another_one() -> None:
    """The pinned one may not be there yet, or be too old for a GPU."""
    for service in COMPOSE["services"].values():
        assert service["build"]["args"] == ["TRITON_IMAGE"]


def test_the_server_is_not_root_and_its_health_is_watched() -> None:
    """The last user holds; a health check that never asks for readiness sees nothing."""
    order = [name for name, _ in instructions()]
    assert arguments("USER") == ["avatar"]
    assert "useradd" in " ".join(arguments("RUN"))
    assert order.index("USER") < order.index("CMD")
    assert arguments("HEALTHCHECK")


@needs_program("curl")
@pytest.mark.parametrize("is_ready", [True, False])
def test_the_health_is_the_word_of_the_supervisor(is_ready: bool) -> None:
    """Triton is ready without its public model, and with one whose process is dead."""

    class Supervisor(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if is_ready and self.path == "/ready" else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    options, command = arguments("HEALTHCHECK")[0].split("CMD", 1)
    assert "--start-period" in options
    with HTTPServer(("127.0.0.1", 0), Supervisor) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        asked = command.replace("127.0.0.1:8003", f"127.0.0.1:{server.server_port}")
        done = subprocess.run(asked, shell=True, timeout=30)
        server.shutdown()
    assert done.returncode == (0 if is_ready else 1)


def test_what_is_copied_exists_and_is_enough_to_build_plans() -> None:
    """A missing folder fails the build, on the machine of whoever has a GPU."""
    copied = [word for text in arguments("COPY") for word in text.split()[:-1]]
    assert all((ROOT / word).exists() for word in copied)
    assert {"pipeline", "export", "deploy", "model_repository"} <= set(copied)
    for lock in re.findall(r"-r (\S+)", " ".join(arguments("RUN"))):
        assert "--hash=sha256:" in (ROOT / lock).read_text()


def test_the_image_starts_the_supervised_server() -> None:
    """Triton alone never brings a dead model back; on the loopback interface nobody reaches it."""
    words = json.loads(arguments("CMD")[0])
    assert words[:3] == ["python3", "-m", "deploy.server"]
    done = subprocess.run(
        [sys.executable, *words[1:], "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert {"--triton=/opt/tritonserver", "--config=", "--address=0.0.0.0"} <= set(words)
    assert "--log-dir=/tmp/avatar-server" in words, "nothing else can be written"


def test_the_server_writes_nothing_but_to_tmp() -> None:
    """Who breaks into a model's process could leave code in the repository."""
    server = COMPOSE["services"]["server"]
    assert server["read_only"] is True
    assert server["tmpfs"] == ["/tmp"]
    assert all(volume.endswith(":ro") for volume in server["volumes"])
    assert "no-new-privileges:true" in server["security_opt"]


def test_every_service_has_the_image_shared_memory_and_gpus() -> None:
    """Docker's 64 MB of shared memory is too little for the Python backend's processes."""
    for service in COMPOSE["services"].values():
        assert service["build"]["dockerfile"] == "deploy/Dockerfile"
        size = re.fullmatch(r"(\d+)gb", service["shm_size"])
        assert int(size[1]) * 1000 >= doctor.MIN_SHM_MB
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
        assert service["cap_drop"] == ["ALL"]


def test_services_call_modules_that_exist() -> None:
    """A renamed module would be missed on the GPU machine only."""
    text = " ".join(map(str, (s.get("command", "") for s in COMPOSE["services"].values())))
    modules = re.findall(r"-m'?,? '?((?:export|deploy)[\w.]+)", text)
    assert {"export.engines.build", "export.repository.deployment", "deploy.doctor"} == set(modules)
    assert all(importlib.util.find_spec(module) for module in modules)


def test_what_the_image_calls_needs_no_torch() -> None:
    """The image has none: plans are built from graphs."""
    code = "import sys; sys.modules['torch'] = None; "
    code += "import export.engines.build, export.repository.deployment, deploy.doctor"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_ports_are_published_on_the_loopback_interface() -> None:
    """HTTP and metrics have neither TLS nor a password."""
    ports = COMPOSE["services"]["server"]["ports"]
    assert sorted(port.rsplit(":", 1)[1] for port in ports) == ["8001", "8002", "8003"]
    assert all(port.startswith("127.0.0.1:") for port in ports)
