"""Everything that talks to the server of this machine goes past the environment's proxies."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import load_drivers
from deploy.server import health

REPO = Path(__file__).resolve().parents[3]
NAMES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")


def channels() -> Iterator[tuple[str, ast.Call]]:
    """Every place where a gRPC client of tritonclient is made."""
    for path in sorted(REPO.glob("[bdet]*/**/*.py")):
        if path.parts[len(REPO.parts)] in ("benchmarks", "deploy", "export", "tests", "train"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and "InferenceServerClient" in ast.unparse(node.func):
                    yield f"{path.relative_to(REPO)}:{node.lineno}", node


def test_every_client_of_ours_goes_past_proxies() -> None:
    """gRPC takes http_proxy for loopback addresses, too: it would wait for ever."""
    wanted = "CHANNEL_ARGS"
    bad = [
        where
        for where, call in channels()
        if wanted not in [ast.unparse(k.value) for k in call.keywords if k.arg == "channel_args"]
    ]
    assert bad == []
    assert len(list(channels())) > 3


def test_a_program_gets_no_proxy(proxies: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """perf_analyzer is gRPC as well; the rest of its environment it needs."""
    monkeypatch.setenv("LD_LIBRARY_PATH", "/x")
    got = health.environment()
    assert not [name for name in got if name.lower() in NAMES]
    assert got["LD_LIBRARY_PATH"] == "/x"
    assert os.environ["http_proxy"] == proxies  # pip's downloads keep theirs


def test_perf_analyzer_is_started_without_proxies(
    proxies: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The load test would measure nothing, after its whole time."""
    fake = tmp_path / "perf_analyzer"
    fake.write_text("#!/bin/sh\nenv\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(load_drivers.perf_analyzer, "install", lambda: [str(fake)])
    load = load_drivers.Load(
        image=REPO / "examples" / "portrait.png",
        audio=np.zeros(16_000, np.float32),
        samples_per_request=4_000,
        num_sequences=1,
        limit_s=60,
        folder=tmp_path,
    )
    with pytest.raises(RuntimeError) as failed:
        load_drivers.run_perf_analyzer("127.0.0.1:1", load, 1, 3)
    assert "PATH=" in str(failed.value)
    assert proxies not in str(failed.value)
