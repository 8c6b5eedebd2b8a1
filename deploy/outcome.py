"""How a command of this project ends: in a sentence, never in a traceback."""

import errno
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable

INTERRUPTED = 130
_EXPECTED = (OSError, RuntimeError, ValueError, subprocess.SubprocessError, zipfile.BadZipFile)
_FIXES = {
    errno.ENOSPC: "free some space on that disk, or move the checkout to a larger one",
    errno.EDQUOT: "free some of your quota, or move the checkout to another disk",
    errno.EROFS: "clone the project into a folder that can be written",
    errno.EACCES: "give yourself the right to it, or use a folder of your own",
    errno.EPERM: "give yourself the right to it, or use a folder of your own",
    errno.EMFILE: "allow more open files: ulimit -n 1024",
    errno.ENFILE: "the whole system has too many open files: end some programs",
    errno.ENOMEM: "end some programs, or use a machine with more memory",
}


def say(text: str) -> None:
    """Tell the user, beside the results on stdout."""
    print(text, file=sys.stderr, flush=True)


def exit_code(work: Callable[[], int]) -> int:
    """What `work` returns; 1 after the words of a failure that can happen to anybody."""
    try:
        return work()
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except _EXPECTED as error:
        say(f"error: {in_words(error)}")
        return 1


def in_words(error: Exception) -> str:
    """An error as a user should read it: for one of the system with the file and the fix."""
    if isinstance(error, shutil.Error):  # of a copied folder: a list of files and words
        error = _first(error)
    if not isinstance(error, OSError) or error.errno is None:
        return str(error) or type(error).__name__
    where = f"{error.filename}: " if error.filename is not None else ""
    fix = f" ({text})" if (text := _FIXES.get(error.errno)) else ""
    return f"{where}{error.strerror}{fix}"


def _first(error: shutil.Error) -> Exception:
    """The first failure of a copied folder."""
    try:
        _, target, words = error.args[0][0]
        number, text = re.match(r"\[Errno (\d+)\] ([^:]*)", words).groups()  # type: ignore[union-attr]
        return OSError(int(number), text, target)
    except (AttributeError, IndexError, TypeError, ValueError):
        return RuntimeError(str(error))
