"""The folders of a model repository, written beside the old one and put in its place when whole."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from export.repository.catalogue import Model, system_of

POSE_MODEL = "pose_encoder"
MARK = ".assembled"  # a file in the repository that says we made it; Triton looks at folders only


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """The folder of one model as it is to be."""

    name: str
    model: Model
    files: Mapping[str, Path]  # name in the version folder -> file that becomes it
    is_python: bool
    """Whether the model's `model.py` is served; False where Triton runs a plan by itself."""
    config: Callable[[str], str]  # text of a configuration in the sources -> the one to be written
    for_gpus: bool = False  # without configurations for a CPU


def write_repository(
    folders: Sequence[Folder], out: Path, *, sources: Path, pipeline: Path
) -> None:
    """Write the models' folders to `out`, all or none; ValueError if something else lies there."""
    _check_replaceable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = out.with_name(f".{out.name}.new-{os.getpid()}")
    try:
        for each in folders:
            _write(each, sources / each.name, fresh / each.name, pipeline)
        (fresh / MARK).touch()
        _replace(fresh, out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _check_replaceable(out: Path) -> None:
    """Refuse to replace a folder that was not assembled here, such as the sources."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ValueError(f"{out} is not a folder; it is not replaced")
    if out.exists() and any(out.iterdir()) and not (out / MARK).exists():
        raise ValueError(f"{out} was not assembled by this command (no {MARK}): not replaced")


def _write(folder: Folder, source: Path, target: Path, pipeline: Path) -> None:
    ignored = ["__pycache__", "*.pyc", ".gitkeep"]
    ignored += [] if folder.is_python else ["model.py"]
    ignored += ["configs"] if folder.for_gpus else []
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*ignored))
    version = target / "1"
    version.mkdir(exist_ok=True)  # Triton wants it for an ensemble too; git keeps no empty folder
    for config in target.rglob("*.pbtxt"):
        config.write_text(folder.config(config.read_text()))
    if folder.is_python:
        copy_code(pipeline, version / "pipeline", system_of(folder.model).without)
    for name, path in folder.files.items():
        link_or_copy(path, version / name)


def copy_code(pipeline: Path, target: Path, without: Sequence[str]) -> None:
    """The modules of `pipeline` but for some; a link would change under a server when edited."""
    for module in sorted(pipeline.rglob("*.py")):
        path = module.relative_to(pipeline)
        if not {path.as_posix(), path.parts[0]} & set(without):
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(module, target / path)


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link to the file itself: buckets and runtimes refuse weights behind symbolic ones."""
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def _replace(fresh: Path, out: Path) -> None:
    old = out.with_name(f".{out.name}.old-{os.getpid()}")
    if out.exists():
        out.rename(old)
    try:
        fresh.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def written(out: Path) -> Iterator[list[str]]:
    """Around what a command writes to `out` and whose models it lists: says them, and whether the
    encoder of pose videos is left out that was there before; or in one line why there are none, and
    ends the program with status 1."""
    models: list[str] = []
    had_pose = (out / POSE_MODEL).is_dir()
    try:
        yield models
    except ValueError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        # of a copied folder: a list of files and words
        said = error.args[0][0][2] if isinstance(error, shutil.Error) else error
        advice = "make room and rights, or name another REPOSITORY="
        sys.exit(f"error: {out} is not written ({said}): {advice}")
    print(f"{out}: {', '.join(models)}", file=sys.stderr)
    if had_pose and "live_avatar" in models and POSE_MODEL not in models:
        print(
            f"{out}: {POSE_MODEL} was in it and is not any more; POSE=1 keeps it", file=sys.stderr
        )
