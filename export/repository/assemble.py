"""Assemble the Triton model repository: configs, the server's code, and the exported graphs.

    python -m export.repository.assemble --artifacts artifacts/demo --out build/model_repository

Each model's folder is complete by itself, since Triton fetches it alone from a bucket. Graphs and
weights are hard links where the file system allows it: an export must replace its files, never
write into them.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from export.repository.catalogue import (
    AVATAR,
    SPARE,
    TOKENIZER,
    Model,
    Role,
    folder_of,
    kind_of,
    system_in,
    system_of,
)
from export.repository.cores import num_cores, shared_out
from export.repository.folders import Folder, write_repository, written
from export.repository.pbtxt import (
    is_stage,
    parse_steps,
    stage_names,
    with_parameter,
    with_pose,
    with_spare,
    with_steps,
)
from pipeline.identity.file_hashes import HASHES

if TYPE_CHECKING:
    from export.repository.deployment import Deployment

REPO = Path(__file__).resolve().parents[2]


def assemble(
    artifacts: Path | Sequence[Path],
    out: Path,
    *,
    sources: Path = REPO / "model_repository",
    pipeline: Path = REPO / "pipeline",
    models: Sequence[str] | None = None,
    steps: str = "",
    threads: int = 1,
    live: bool = False,
    pose: bool = False,
    spare: bool = False,
    deployment: "Deployment | None" = None,
) -> Path:
    """Write the repository to `out`, replacing the one that lies there; returns `out`.

    artifacts: folder of the exported graphs, their safetensors and pipeline.json or rolling.json;
    several folders share one repository, each with the models that read its files.
    models: names to take from `sources` (None: all of these).
    steps: denoising steps of each stage as in `parse_steps`; stages beyond them are left out.
    threads: of each stage. live: of the decoder too, and they wait for each other awake, since
    one block is made at a time: `blocks_at_once` says so.
    pose: with the encoder of pose videos; a deployment says so itself.
    spare: with a stage that is idle until another one dies.
    deployment: plans on GPUs in the place of graphs; its models are those of the repository.
    `ValueError` names what is missing; `out` is then as it was before.
    """
    given = [artifacts] if isinstance(artifacts, Path) else list(artifacts)
    left_out = {model.name for model in AVATAR.pose if not pose} | (set() if spare else {SPARE})
    names = _chosen(sources, deployment.models() if deployment else models, given, left_out)
    placed: list[list[int]] = []  # a deployment has its own
    if deployment is None and any(map(is_stage, names)):
        names, placed = _placed(names, steps, folder_of(AVATAR.denoiser, given), models is None)
    folders = [
        deployment.folder(name, model, folder_of(model, given))
        if deployment
        else _graphs_folder(
            name, model, folder_of(model, given), placed, threads, live=live, pose=pose, spare=spare
        )
        for name, model in names.items()
    ]
    for folder in given:
        _check_artifacts(folder, folders)
    write_repository(folders, out, sources=sources, pipeline=pipeline)
    return out


def _chosen(
    sources: Path, models: Sequence[str] | None, folders: Sequence[Path], left_out: set[str]
) -> dict[str, Model]:
    """Name of every model to be assembled -> what the catalogue says of it."""
    there = sorted(path.parent.name for path in sources.glob("*/config.pbtxt"))
    present = {name: kind_of(name) for name in there}
    systems = [system_in(folder) for folder in folders]
    served = {name: kind for name, kind in present.items() if name not in left_out}
    theirs = [name for name, kind in served.items() if kind is None or system_of(kind) in systems]
    names = theirs if models is None else list(models)
    if not names:
        raise ValueError(f"no models: {sources} has no folder with a config.pbtxt")
    chosen = {}
    for name in names:
        if name not in present:
            raise ValueError(f"no model {name!r} in {sources}; there are {', '.join(there)}")
        if (kind := present[name]) is None:
            raise ValueError(
                f"model {name!r} is not in export/repository/catalogue.py: say there which "
                "artifacts it loads"
            )
        chosen[name] = kind
    return chosen


def _placed(
    names: dict[str, Model], steps: str, artifacts: Path, may_leave_out: bool
) -> tuple[dict[str, Model], list[list[int]]]:
    """The models without stages that own no step, and the steps of those that do."""
    config = artifacts / AVATAR.config
    if not config.is_file():
        return names, []  # which is missed in a moment
    num_steps = json.loads(config.read_text())["num_steps"]
    placed = parse_steps(steps, num_steps)
    stages, wanted = [name for name in names if is_stage(name)], stage_names(placed)
    if missing := [name for name in wanted if name not in stages]:
        raise ValueError(
            f"{num_steps} steps want {', '.join(missing)}, which is not there; fold steps onto "
            f"the {len(stages)} stages that are, such as --steps 0,1 2,3"
        )
    if extra := [name for name in stages if name not in wanted and not may_leave_out]:
        raise ValueError(f"no step is left for {', '.join(extra)}; leave it out of --models")
    return {n: model for n, model in names.items() if not is_stage(n) or n in wanted}, placed


def _graphs_folder(
    name: str,
    model: Model,
    artifacts: Path,
    steps: list[list[int]],
    threads: int,
    *,
    live: bool,
    pose: bool,
    spare: bool,
) -> Folder:
    has_threads = model is AVATAR.denoiser or (live and model.role is Role.DECODER)
    is_avatar = model.role is Role.PUBLIC and system_of(model) is AVATAR

    def config(text: str) -> str:
        text = with_steps(name, text, steps) if steps else text
        text = with_pose(name, text) if pose else text
        text = with_spare(name, text) if spare else text
        if live and is_avatar:
            return with_parameter(text, "blocks_at_once", "1")
        if not has_threads or "num_threads" not in text:
            return text
        text = with_parameter(text, "num_threads", str(threads))
        return with_parameter(text, "spinning", "yes") if live and threads > 1 else text

    is_python = model.role is not Role.ENSEMBLE
    wanted = [system_of(model).config, HASHES, *model.files_in(artifacts)] if is_python else []
    if model.role is Role.PUBLIC and (artifacts / TOKENIZER).exists():
        wanted.append(TOKENIZER)
    return Folder(
        name=name,
        model=model,
        files={file: artifacts / file for file in wanted},
        is_python=is_python,
        config=config,
    )


def _check_artifacts(artifacts: Path, folders: Sequence[Folder]) -> None:
    if not artifacts.is_dir():
        raise ValueError(f"there is no folder {artifacts}. Export writes it: make export")
    missing: dict[str, list[str]] = {}
    for folder in folders:
        for path in folder.files.values():
            if path.parent == artifacts and not path.is_file():
                missing.setdefault(path.name, []).append(folder.name)
    if list(missing) == [HASHES]:
        raise ValueError(without_hashes(artifacts))
    if missing:
        wanted = "; ".join(f"{file} (for {', '.join(by)})" for file, by in missing.items())
        raise ValueError(f"missing in {artifacts}: {wanted}. Export writes them: make export")


def without_hashes(artifacts: Path) -> str:
    """What is wrong with artifacts that have no hashes.json."""
    return (
        f"missing in {artifacts}: {HASHES}, so no model could tell its files from another "
        f"export's. Export writes it: make export; for files that you trust: "
        f"python -m export.repository.hash_files {artifacts}"
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Assemble the Triton model repository.")
    parser.add_argument("--artifacts", type=Path, required=True, nargs="+")
    parser.add_argument("--out", type=Path, default=REPO / "build" / "model_repository")
    parser.add_argument("--models", help="comma-separated names; all if not given")
    parser.add_argument("--steps", default="", help="such as '0,1 2,3'; else as cores allow")
    parser.add_argument("--threads", type=int, help="of each stage; else as cores allow")
    parser.add_argument(
        "--live",
        action="store_true",
        help="every stage with all cores: blocks come sooner, and fewer",
    )
    parser.add_argument("--pose", action="store_true", help="with the encoder of pose videos")
    parser.add_argument(
        "--spare", action="store_true", help="with a stage that is idle until another one dies"
    )
    given = parser.parse_args()
    models = given.models.split(",") if given.models else None
    with written(given.out) as names:
        steps, threads, shares = given.steps, given.threads, None
        config = folder_of(AVATAR.denoiser, given.artifacts) / AVATAR.config
        if not steps and models is None and config.is_file():
            num_steps = json.loads(config.read_text())["num_steps"]
            shares = shared_out(num_steps, num_cores(), live=given.live)
            steps, threads = shares.text, threads or shares.threads
        out = assemble(
            given.artifacts,
            given.out.absolute(),
            models=models,
            steps=steps,
            threads=threads or 1,
            live=given.live,
            pose=given.pose,
            spare=given.spare,
        )
        if shares:
            print(shares, file=sys.stderr)
        names += sorted(path.parent.name for path in out.glob("*/config.pbtxt"))


if __name__ == "__main__":
    main()
