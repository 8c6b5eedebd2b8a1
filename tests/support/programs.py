"""Programs that some tests start and that nothing in `make setup-dev` installs.

python -m tests.support.programs      says what this machine lacks, and how to get it
"""

import platform
import shutil
import sys

import pytest

from deploy.downloads import newer_libraries, perf_analyzer, triton

PACKAGES = {
    "espeak-ng": "espeak-ng",
    "git": "git",
    "make": "make",
    "apt-config": "apt",
    "systemd-analyze": "systemd",
    "promtool": "prometheus",  # and prometheus itself
}
"""Program -> the package of Debian and Ubuntu that brings it."""


def missing(program: str) -> str | None:
    """Why a test of `program` is skipped and how to change that; None where the program is."""
    if shutil.which(program) is not None:
        return None
    return f"needs {program}: apt install {PACKAGES[program]}"


def needs_program(program: str) -> pytest.MarkDecorator:
    """Skips a test where `program` is missing."""
    return pytest.mark.skipif(missing(program) is not None, reason=missing(program) or "")


needs_perf_analyzer = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64")
    or (newer_libraries.glibc_version() < perf_analyzer.GLIBC and shutil.which("apt-get") is None),
    reason="perf_analyzer needs Linux on x86-64 with glibc 2.38, or apt to fetch that",
)


needs_fetched_server = pytest.mark.skipif(
    not triton.is_fetched(), reason="no Triton server: run make fetch"
)


def main() -> int:
    """One line for everything that is missing, none where nothing is; the tests run anyway."""
    absent = [program for program in PACKAGES if missing(program)]
    if absent:
        packages = " ".join(PACKAGES[program] for program in absent)
        print(
            f"some tests will be skipped without {', '.join(absent)}: apt install {packages}",
            file=sys.stderr,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
