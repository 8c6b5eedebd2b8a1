"""Paths as Triton's Python backend can take them.

It starts a model's process by a line of bash in which nothing is quoted, and its Python reads
paths as ASCII. A path with a space, a quote or an accent therefore goes through a link with a
plain name in the server's working folder.
"""

from __future__ import annotations

import re
from pathlib import Path

LINKS = ("models", "backends")
"""Names of the links."""
_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)


def spelled(path: Path, link: Path) -> str:
    """The path itself if it is plain; else the name of `link`, made anew, which points there.

    That name holds for a process whose working folder is the link's.
    """
    if _PLAIN.fullmatch(str(path)):
        return str(path)
    link.unlink(missing_ok=True)
    link.symlink_to(path)
    return link.name


def remove_links(folder: Path) -> None:
    """Remove what `spelled` made in the folder; nothing if it made nothing."""
    for name in LINKS:
        if (folder / name).is_symlink():
            (folder / name).unlink()
