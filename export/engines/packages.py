"""What builds engines: TensorRT where there is a GPU, TensorRT-RTX where there is none.

    python -m export.engines.packages        installs TensorRT-RTX into build/engines/packages, once

TensorRT-RTX has TensorRT's parser, network and builder and needs no driver, so the same graphs are
compiled by the same code on any machine. It is large (105 MB) and nothing else needs it: it lies in
a folder of its own and not in the virtual environment.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import typer

from export.commands import failing_in_words
from pipeline.engines.gpu import import_tensorrt

REPO = Path(__file__).resolve().parents[2]
LOCK = REPO / "requirements" / "engines.lock"
PACKAGES = REPO / "build" / "engines" / "packages"

WHERE = (
    "plans are built on the GPU that runs them, in the image of deploy/Dockerfile; whether graphs "
    "compile is seen without one by make compile-check, or --rtx --compute-capability 8.9"
)


def is_installed(folder: Path = PACKAGES) -> bool:
    stamp = folder / ".stamp"
    return stamp.is_file() and stamp.read_text() == _stamp()


def install(folder: Path = PACKAGES) -> Path:
    """Bring `folder` to what the lock says, unless it is there; RuntimeError if pip fails, or if
    TensorRT-RTX is not made for this machine."""
    if is_installed(folder):
        return folder
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise RuntimeError(
            f"this machine is {sys.platform} {platform.machine()}, and TensorRT-RTX of {LOCK.name} "
            "is for linux x86_64: the graphs cannot be compiled here"
        )
    print("installing TensorRT-RTX, Polygraphy and bindings (105 MB)", file=sys.stderr)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder.with_name(f".{folder.name}.new-{os.getpid()}")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-input", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    try:
        done = subprocess.run([*command, "--target", fresh, "-r", LOCK], stdin=subprocess.DEVNULL)
        if done.returncode:
            raise RuntimeError(
                f"pip could not install requirements/{LOCK.name} (its words are above): without "
                "it nobody knows whether the graphs compile"
            )
        (fresh / ".stamp").write_text(_stamp())
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _stamp() -> str:
    return f"{sys.version_info[:2]} {hashlib.sha256(LOCK.read_bytes()).hexdigest()}\n"


def load_tensorrt(rtx: bool, folder: Path = PACKAGES) -> Any:
    """The module `tensorrt`, or TensorRT-RTX in its stead, for this process and for Polygraphy.

    Call it before Polygraphy is imported. RuntimeError says what to install.
    """
    if not rtx:
        try:
            return import_tensorrt()
        except ImportError as error:
            why = "" if isinstance(error, ModuleNotFoundError) else f" ({error})"
            raise RuntimeError(f"TensorRT is not here{why}: {WHERE}") from None
    if not is_installed(folder):
        raise RuntimeError("TensorRT-RTX is not here: python -m export.engines.packages")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = "1"
    import tensorrt_rtx_bindings

    # Its package `tensorrt_rtx` is an sdist that does nothing but import this one.
    sys.modules["tensorrt_rtx"] = tensorrt_rtx_bindings
    return tensorrt_rtx_bindings


@failing_in_words(RuntimeError)
def main() -> None:
    """Install TensorRT-RTX, unless it is there."""
    install()


if __name__ == "__main__":
    typer.run(main)
