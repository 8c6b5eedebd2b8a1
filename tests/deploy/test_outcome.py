"""How the commands of the set-up end."""

import errno
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy import checkout, outcome

FAILURES = [
    (OSError(errno.ENOSPC, "No space left on device"), "No space left on device (free some"),
    (OSError(errno.EROFS, "Read-only file system", "/x/y"), "/x/y: Read-only file system (clone"),
    (PermissionError(errno.EACCES, "Permission denied", "/x"), "/x: Permission denied (give"),
    (OSError(errno.EMFILE, "Too many open files"), "Too many open files (allow more"),
    (
        shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")]),
        "b: No space left on device (free some",
    ),
    (FileNotFoundError(errno.ENOENT, "No such file or directory", "/x"), "/x: No such file"),
    (ValueError("in words"), "in words"),
    (subprocess.TimeoutExpired(["pip"], 3), "timed out after 3"),
    (OSError("neither number nor file"), "neither number nor file"),
]


@pytest.mark.parametrize(("failure", "words"), FAILURES, ids=[words for _, words in FAILURES])
def test_a_command_ends_in_one_line(
    failure: Exception, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A traceback of twenty lines hides the one that matters."""

    def work() -> int:
        raise failure

    assert outcome.exit_code(work) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_an_interrupt_ends_in_one_word(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C during a download shows pip's inside."""

    def work() -> int:
        raise KeyboardInterrupt

    assert outcome.exit_code(work) == outcome.INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"


DEPLOY = Path(checkout.__file__).parent
COMMANDS = [
    str(path.relative_to(DEPLOY))
    for path in sorted(DEPLOY.rglob("*.py"))
    if "__main__" in path.read_text() and path.stem != "check_python"
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_set_up_ends_in_words(command: str) -> None:
    """One that is added later would end in tracebacks again."""
    code = (DEPLOY / command).read_text()
    assert "exit_code(" in code.partition('if __name__ == "__main__":')[2]
