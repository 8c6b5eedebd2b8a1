"""A file that appears under its name only when it is whole."""

import os
import secrets
import stat
from pathlib import Path

_WRITE_BITS = 0o222


class Target:
    """The place where a file is to appear, and an empty temporary file beside it, to be written.

    A symbolic link stays one: what it leads to is replaced, with its permissions kept. Whoever
    writes last wins. Raises OSError where the place can't be written, at once if that can be known.
    """

    def __init__(self, path: Path) -> None:
        self._place = Path(os.path.realpath(path))
        mode = _mode_of(self._place)
        # Short, and not made of the name: that one may be as long as the system allows.
        self.temporary = self._place.with_name(f".live-avatar-{secrets.token_hex(4)}.part")
        self.temporary.touch(exist_ok=False)
        if mode is not None:
            self.temporary.chmod(mode)

    def keep(self) -> None:
        """Let the file appear; what is still on its way to the disk gets there first."""
        with self.temporary.open("rb") as file:
            os.fsync(file.fileno())
        self.temporary.replace(self._place)

    def discard(self) -> None:
        """Leave no trace of a file that was not kept; what had the name before keeps it."""
        self.temporary.unlink(missing_ok=True)


def _mode_of(place: Path) -> int | None:
    """The permissions of the file that is there, None where there is none. OSError for one that
    open() would not write to, or that nobody may write to: renaming would not ask."""
    try:
        status = place.stat()
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
