"""TLS and mutual TLS to the real server, with certificates that the test makes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from deploy.server.health import why_not_ready
from deploy.server.local import LocalServer
from deploy.server.ports import free_ports
from deploy.server.tls import TlsFiles
from live_avatar_client import AvatarError, Session, ThreadedLiveSession, Tls
from live_avatar_client.stream import check_health, num_sessions
from tests.client.test_cli import run
from tests.deploy.server.test_local import DOUBLING, write_model
from tests.server.security.certificates import Authority, Issued
from tests.support.raw_stream import IMAGE
from tests.support.waiting import happens

pytestmark = pytest.mark.triton
ROOT = Path(__file__).parents[3]


class Keys(NamedTuple):
    """What an operator hands out."""

    ours: Authority
    others: Authority
    server: Issued
    client: Issued
    stranger: Issued

    def trusting(self, client: Issued | None = None, root: Authority | None = None) -> Tls:
        return Tls(
            root_certificates=(root or self.ours).root.read_bytes(),
            private_key=client and client.key.read_bytes(),
            certificate_chain=client and client.certificate.read_bytes(),
        )


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    ours, others = Authority(folder, "ours"), Authority(folder, "others")
    return Keys(ours, others, ours.issue("server"), ours.issue("client"), others.issue("stranger"))


@pytest.fixture(scope="module")
def mutual(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """The demo behind a server that asks its clients for certificates."""
    from export.repository.assemble import assemble

    folder = tmp_path_factory.mktemp("mutual")
    assemble(ROOT / "artifacts" / "demo", folder / "repository")
    tls = TlsFiles(
        certificate=keys.server.certificate, key=keys.server.key, client_root=keys.ours.root
    )
    with LocalServer(folder / "repository", log_dir=folder, tls=tls) as running:
        yield running


def words_of(url: str, tls: Tls | None) -> str:
    """Why this client gets no session."""
    with pytest.raises(AvatarError) as refused:
        check_health(url, tls=tls)
    return str(refused.value)


def test_a_client_with_the_right_certificates_is_served(mutual: LocalServer, keys: Keys) -> None:
    """Nobody would be."""
    tls = keys.trusting(keys.client)
    assert mutual.grpc_url.startswith("grpcs://127.0.0.1:")
    assert num_sessions(mutual.grpc_url, tls=tls) == 2
    with Session(url=mutual.grpc_url, tls=tls, image=IMAGE.tobytes(), idle=False) as session:
        blocks = list(session.stream([np.zeros(16_000, np.float32)]))
    assert sum(len(block.frames) for block in blocks) == 25
    with ThreadedLiveSession(url=mutual.grpc_url, tls=tls, image=IMAGE.tobytes()) as face:
        assert next(face.frames()).picture.shape[2] == 3


def test_others_hear_what_is_wrong(mutual: LocalServer, keys: Keys) -> None:
    """gRPC says "Socket closed", or an error of OpenSSL."""
    plain = mutual.grpc_url.removeprefix("grpcs://")
    assert "it may want TLS: give grpcs://" in words_of(plain, None)
    assert "may want a certificate of its clients" in words_of(mutual.grpc_url, keys.trusting())
    stranger = keys.trusting(keys.stranger)
    assert "may not trust who signed" in words_of(mutual.grpc_url, stranger)
    wrong = keys.trusting(keys.client, root=keys.others)
    assert "not signed by an authority that is trusted here" in words_of(mutual.grpc_url, wrong)
    assert "not signed by an authority" in words_of(mutual.grpc_url, None)


def test_the_command_takes_the_files(
    mutual: LocalServer, keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Options, or the variables that `make demo` passes on."""
    files = ["--tls-ca", keys.ours.root, "--tls-cert", keys.client.certificate]
    files += ["--tls-key", keys.client.key]
    health = ["health", "--url", mutual.grpc_url]
    assert run(monkeypatch, *health, *map(str, files)) == 0
    assert run(monkeypatch, *health) == 1
    assert "--tls-ca FILE" in capsys.readouterr().err
    for option, path in zip(files[::2], files[1::2], strict=True):
        name = str(option).removeprefix("--").replace("-", "_").upper()
        monkeypatch.setenv(f"LIVE_AVATAR_{name}", str(path))
    assert run(monkeypatch, *health) == 0


def test_a_server_of_make_serve_comes_back_with_tls(keys: Keys, tmp_path: Path) -> None:
    """The supervisor would start it without, or not see that it is ready."""
    repository = write_model(tmp_path / "repository", "doubling", DOUBLING)
    command = [sys.executable, "-m", "deploy.server", "--log-dir", str(tmp_path / "log")]
    ports = free_ports()
    options = [
        word for name, port in asdict(ports).items() for word in (f"--{name}-port", str(port))
    ]
    options += ["--repository", str(repository), "--tls-cert", str(keys.server.certificate)]
    options += ["--tls-key", str(keys.server.key)]

    def make(*words: str) -> tuple[int, str]:
        done = subprocess.run([*command, *words], cwd=ROOT, capture_output=True, text=True)
        return done.returncode, done.stderr

    refused = make(
        "start", *options, "--grpc-address", "0.0.0.0", "--tls-cert", "", "--tls-key", ""
    )
    assert refused[0] == 1
    assert "without encryption: add TLS_CERT" in refused[1]
    code, said = make("start", *options)
    try:
        assert code == 0, said
        assert f"grpcs://127.0.0.1:{ports.grpc}" in said
        state = json.loads((tmp_path / "log" / "server.json").read_text())
        assert state["tls"]["certificate"] == str(keys.server.certificate)
        assert make("status")[0] == 0
        url = f"grpcs://127.0.0.1:{ports.grpc}"
        assert check_health(url, "doubling", tls=keys.trusting()).model_ready
        os.kill(state["pid"], signal.SIGKILL)
        assert happens(lambda: why_not_ready(ports, "") != "", 10)
        assert happens(lambda: why_not_ready(ports, "") == "", 60)
        assert check_health(url, "doubling", tls=keys.trusting()).model_ready
    finally:
        assert make("stop")[0] == 0


@pytest.mark.parametrize(
    ("name", "words"), [("missing.pem", "can't be read"), ("text.pem", "has no certificate in PEM")]
)
def test_a_file_that_is_no_certificate_is_named(
    keys: Keys, tmp_path: Path, name: str, words: str
) -> None:
    """Triton would end with an error of OpenSSL, in its log."""
    (tmp_path / "text.pem").write_text("hello")
    with pytest.raises(ValueError, match=words):
        TlsFiles(certificate=tmp_path / name, key=keys.server.key)
    with pytest.raises(ValueError, match="a certificate and its key"):
        TlsFiles.given("", str(keys.server.key), "")
