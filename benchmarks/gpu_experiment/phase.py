"""One phase in a process of its own: `python -m benchmarks.gpu_experiment.phase MODULE FILE`.

What a phase finds is appended to FILE at once, a line of JSON for each finding, so that a phase
which is killed has said what it knew. MODULE has `measure(findings, is_miniature)`.
"""

import contextlib
import importlib
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


class Findings:
    """What a phase has found so far."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def holds(self, name: str, held: bool) -> None:
        """An assertion and whether it held."""
        self._say("asserts", name, bool(held))

    def check(self, name: str, ask: Callable[[], bool]) -> None:
        """An assertion; one that raises did not hold, and its words are kept."""
        try:
            self.holds(name, ask())
        except Exception as error:
            traceback.print_exc()
            self.holds(name, False)
            self._say("reasons", name, words(error))

    def figure(self, name: str, value: Any) -> None:
        self._say("figures", name, value)

    def without(self, name: str, reason: str) -> None:
        """A figure that cannot be had here."""
        self._say("figures", name, None)
        self._say("reasons", name, reason)

    @contextlib.contextmanager
    def trying(self, name: str) -> Iterator[None]:
        """What fails in here leaves figure `name` without a value; the phase goes on."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.without(name, words(error))

    def error(self, error: BaseException) -> None:
        """What ended the phase."""
        self._say("error", "", words(error))

    def _say(self, kind: str, name: str, value: Any) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps([kind, name, value]) + "\n")


def words(error: BaseException) -> str:
    """An error's type and its words, not longer than a reader wants them."""
    return f"{type(error).__name__}: {error}"[:1000]


def main(module: str, path: str, *options: str) -> int:
    findings = Findings(Path(path))
    try:
        importlib.import_module(module).measure(findings, "--miniature" in options)
    except Exception as error:
        traceback.print_exc()
        findings.error(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
