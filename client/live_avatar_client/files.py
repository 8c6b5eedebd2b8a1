"""Names of files in messages, and the system's words for what is wrong with them."""

import os
import stat
from pathlib import Path

from av.error import FFmpegError


def shown(text: object, longest: int = 200) -> str:
    """Any name or argument on one line that every terminal takes, long ones cut in the middle. Line
    breaks, control characters and bytes that are no UTF-8 become escapes."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))
    return line if len(line) <= longest else f"{line[: longest // 2]}…{line[-longest // 2 :]}"


def words(error: BaseException) -> str:
    """The system's or FFmpeg's words, such as "No space left on device", without the number."""
    said: object = error.strerror if isinstance(error, OSError | FFmpegError) else error
    if str(said).startswith("Error number"):  # FFmpeg has no words for some of its own
        return "Invalid data"
    return shown(said or error) or type(error).__name__


def check_file(what: str, path: str | Path) -> os.stat_result:
    """ValueError unless the path leads to a regular file; `what` it is opens the message."""
    try:
        status = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{what} {shown(path)} is not a file: there is none") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{what} {shown(path)} can't be read: {words(error)}") from None
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
        raise ValueError(f"{what} {shown(path)} is not a file but {kind}")
    return status


def check_apart(out: str | Path, what: str, source: str | Path) -> None:
    """ValueError where writing `out` would destroy the source, under whatever name it has."""
    try:
        same = Path(out).samefile(source)
    except (OSError, ValueError):
        return  # one of the two is not there, and whoever opens it says so
    if same:
        raise ValueError(
            f"video {shown(out)} can't be written: it is the {what} {shown(source)} itself; "
            "choose another name"
        )


def file_url(path: str | Path) -> str:
    """A path for FFmpeg, which would take `data:x.mp4` or `a:b.wav` for a protocol."""
    return f"file:{os.fspath(path)}"
