"""The folder that the project lies in: whether its name, its rights and its disk will do."""

import os
import shutil
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
_UNFIT = {
    ":": "a colon",  # separates folders in PATH: venv refuses it
    '"': "a double quote",  # these four in the first line of a command that pip installs
    "$": "a dollar sign",
    "`": "a backquote",
    "\\": "a backslash",
}


def default_python() -> str:
    """The virtual environment's interpreter that runs the models. The running one if it belongs to
    an environment, else `.venv`'s, else the running one."""
    ours = REPO / ".venv" / "bin" / "python3"
    if sys.prefix == sys.base_prefix and ours.exists():
        return str(ours)
    return sys.executable


def check_name(repo: Path = REPO) -> None:
    """`RuntimeError` if an environment in this folder would not work."""
    text = str(repo)
    found = next((words for sign, words in _UNFIT.items() if sign in text), None)
    if found is None and any(ord(sign) < 32 or ord(sign) == 127 for sign in text):
        found = "a line break or another control character"
    if found is None and any("\ud800" <= sign <= "\udfff" for sign in text):
        found = "letters that are not UTF-8"
    if found:
        raise RuntimeError(
            f"the checkout's folder {text!a} has {found} in its name, which Python's virtual "
            "environments don't bear: move the checkout to another folder, then run make again"
        )


def check_writable(folder: Path) -> None:
    """`RuntimeError` if nothing can be written into a folder, which need not be there yet."""
    folder = folder.absolute()
    present = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if present.is_symlink() and not present.exists():
        raise RuntimeError(f"{present} links to nothing: remove it, then run this again")
    if not present.is_dir():
        raise RuntimeError(f"{present} is a file, wanted a folder: move it away")
    if not os.access(present, os.W_OK | os.X_OK):
        is_read_only = os.statvfs(present).f_flag & os.ST_RDONLY
        reason = "a read-only file system" if is_read_only else "no permission"
        raise RuntimeError(
            f"{present} cannot be written ({reason}): make it writable for you, "
            "or clone the project into a folder of your own"
        )


def check_space(folder: Path, wanted_mb: int) -> None:
    """`RuntimeError` if the disk of a folder, which need not be there yet, is nearly full."""
    folder = folder.absolute()
    present = next(path for path in (folder, *folder.parents) if path.exists())
    free_mb = shutil.disk_usage(present).free // 10**6
    if free_mb < wanted_mb:
        raise RuntimeError(
            f"the disk of {present} has {free_mb} MB free, wanted {wanted_mb}: free some, "
            "or move the checkout to a larger disk"
        )
