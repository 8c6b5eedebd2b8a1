"""Write `hashes.json` beside exported files: `python -m export.repository.hash_files DIR`.

An export does it by itself. By hand it is for a folder from before there was one: it vouches for
whatever lies there. Standard library only.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from export.repository.catalogue import SYSTEMS, TOKENIZER
from pipeline.identity.file_hashes import HASHED, HASHES, read_hashes, sha256_of

CONFIGS = tuple(system.config for system in SYSTEMS)
"""Not hashed: who runs a server may edit them, in all models alike."""


def write_hashes(folder: Path, names: Iterable[str]) -> Path:
    """Write the sha256 of the files `names` of `folder` to its hashes.json; returns that.

    Those of other files stay while the files are there: an export may write a part. A damaged list
    is begun anew. The file is replaced, never written into: a repository may hold hard links to the
    old one. OSError leaves it as it was.
    """
    path = folder / HASHES
    try:
        known = read_hashes(folder)
    except ValueError:  # missing or damaged
        known = {}
    hashes = {name: sha256 for name, sha256 in known.items() if (folder / name).is_file()}
    wanted = sorted(set(names) - {HASHES, *CONFIGS})
    hashes |= {name: sha256_of(folder / name) for name in wanted}
    fresh = folder / f".{HASHES}.new-{os.getpid()}"
    try:
        fresh.write_text(json.dumps(hashes, indent=1, sort_keys=True) + "\n")
        return fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def main() -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="Write the hashes of exported files.")
    parser.add_argument("folder", type=Path, help="of graphs and weights")
    folder = parser.parse_args().folder
    names = [path.name for path in folder.glob("*") if path.name.endswith(HASHED)]
    names += [path.name for path in folder.glob(TOKENIZER)]
    if not names:
        sys.exit(f"error: {folder} has no graphs and no weights")
    try:
        print(write_hashes(folder, names), file=sys.stderr)
    except OSError as error:
        sys.exit(f"error: {error.filename or folder}: {error.strerror}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
