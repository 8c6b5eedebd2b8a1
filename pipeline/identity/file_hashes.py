"""Which files belong together: `hashes.json`, file name -> sha256 of all that an export wrote.
Every model that runs Python has a copy and compares its own files when it loads: a flipped bit, or
a graph with another export's weights, runs and is wrong, and nothing else would say so."""

import hashlib
import json
from pathlib import Path

HASHES = "hashes.json"
HASHED = (".onnx", ".safetensors")
"""How the names of files end that no model loads unchecked; `hashes.json` may list others."""


def sha256_of(path: Path) -> str:
    """Hexadecimal; the file is read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_hashes(folder: Path) -> dict[str, str]:
    """What hashes.json in `folder` says; ValueError if it is missing or damaged."""
    path = folder / HASHES
    if not path.is_file():
        raise ValueError(f"{path} is missing; assemble the repository anew: make repository")
    try:
        hashes = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}; export anew: make export") from error
    if not isinstance(hashes, dict) or not all(isinstance(h, str) for h in hashes.values()):
        raise ValueError(f"{path} is no object of file names and hashes; export anew: make export")
    return hashes


def check_files(folder: Path, model: str) -> dict[str, str]:
    """File -> sha256 of those in the folder of `model`; ValueError names every wrong one."""
    hashes = read_hashes(folder)
    present = {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}
    if unknown := [n for n in present if n.endswith(HASHED) and n not in hashes]:
        raise ValueError(
            f"{model}: {', '.join(unknown)} is not in {HASHES}, so of another export; "
            "assemble the repository anew: make repository"
        )
    found = {name: sha256_of(path) for name, path in present.items() if name in hashes}
    if wrong := [name for name in found if found[name] != hashes[name]]:
        pairs = [f"{n} (sha256 {short(found[n])}, wanted {short(hashes[n])})" for n in wrong]
        raise ValueError(
            f"{model}: not the files of this export: {', '.join(pairs)}; restore the artifacts "
            "and assemble the repository anew: make repository"
        )
    return found


def short(sha256: str) -> str:
    """Enough of a hash to tell it from another by eye."""
    return f"{sha256[:12]}…"
