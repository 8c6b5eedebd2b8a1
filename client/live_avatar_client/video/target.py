"""A file that appears under its name only when it is whole."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

_MODE = 0o666  # less the umask, as open() has it
_WRITE_BITS = 0o222


class Target:
    """The place where a file is to appear, and the temporary file beside it.

    A symbolic link stays one: what it leads to is replaced. Whoever writes last wins, and nobody
    sees a mixture. Raises OSError where the place can't be written, at `open` if that can be known.
    """

    def __init__(self, path: str | Path) -> None:
        self._place = os.path.realpath(path)
        self.temporary: str | None = None
        """Path of the file to write, between `open` and `keep` or `discard`."""

    def open(self) -> str:
        """Make the empty temporary file, with the permissions that the whole one will have."""
        mode = _mode_of(self._place)
        folder = os.path.dirname(self._place)
        # Short, and not made of the name: that one may be as long as the system allows.
        temporary = os.path.join(folder, f".live-avatar-{secrets.token_hex(4)}.part")
        self.temporary = temporary
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
        except OSError:
            self.temporary = None
            raise
        try:
            if mode is not None:
                os.fchmod(handle, mode)
        finally:
            os.close(handle)
        return temporary

    def keep(self) -> None:
        """Let the file appear; what is still on its way to the disk gets there first."""
        if self.temporary is None:
            raise RuntimeError("there is nothing to keep: the target is not open")
        handle = os.open(self.temporary, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(self.temporary, self._place)
        self.temporary = None

    def discard(self) -> None:
        """Leave no trace; what had the name before keeps it."""
        temporary, self.temporary = self.temporary, None
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def _mode_of(place: str) -> int | None:
    """The permissions of the file that is there, None where there is none.

    OSError for one that open() would not write to, and for one without any permission to write:
    that one is protected from root as well, and renaming would not ask.
    """
    try:
        status = os.stat(place)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(0, "there is a folder of that name")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "a pipe or a device has that name")
    if not status.st_mode & _WRITE_BITS:
        raise PermissionError(0, "the file of that name is write-protected")
    os.close(os.open(place, os.O_WRONLY))
    return stat.S_IMODE(status.st_mode)
