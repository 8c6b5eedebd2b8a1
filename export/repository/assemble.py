"""Assemble the Triton model repository: configs, the server's code, and the exported graphs.

    python -m export.repository.assemble --artifacts artifacts/demo --out build/model_repository

Each model's folder is complete by itself, since Triton fetches it alone from a bucket. The graphs
and weights are hard links to the artifacts where the file system allows it (else copies): an
export must therefore replace its files, never write into them. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from export.repository.pbtxt import is_stage, parse_steps, stage_names, with_steps
from pipeline.identity.file_hashes import HASHES

REPO = Path(__file__).resolve().parents[2]
PIPELINE_CONFIG = "pipeline.json"  # every Python model reads it
TIMESTEPS, WINDOW_TIMESTEPS = "timesteps.safetensors", "window_timesteps.safetensors"
TABLES = (TIMESTEPS, WINDOW_TIMESTEPS)  # what a deployment on plans reads too
MARK = ".assembled"  # a file in the repository that says we made it; Triton looks at folders only

# what each model loads from the artifacts; dit_stage stands for dit_stage_0, dit_stage_1, ...
MODEL_FILES: dict[str, tuple[str, ...]] = {
    "live_avatar": (),
    "conditioning": (),
    "audio_encoder": ("audio_encoder.onnx", "audio_encoder.safetensors"),
    "audio_tokens": ("audio_tokens.onnx", "dit.safetensors"),
    "text_encoder": ("text_encoder.onnx", "text_encoder.safetensors"),
    "vae_encoder": ("vae_encoder.onnx", "vae.safetensors"),
    "vae_decoder": ("vae_decoder.onnx", "vae_decoder_warmup.onnx", "vae.safetensors"),
    "dit_stage": (
        *("dit_step.onnx", "dit_prefill.onnx", "dit_text.onnx"),
        *("dit.safetensors", TIMESTEPS),
    ),
    "rolling_forcing": (),
    "rolling_text_encoder": ("text_encoder.onnx", "text_encoder.safetensors"),
    "rolling_vae_decoder": ("vae_decoder_first.onnx", "vae_decoder.onnx", "vae.safetensors"),
    "dit_window": (
        *("dit_window.onnx", "dit_clean.onnx", "dit_text.onnx", "dit_recache.onnx"),
        *("wan.safetensors", WINDOW_TIMESTEPS),
    ),
}
OPTIONAL_FILES: dict[str, tuple[str, ...]] = {
    "live_avatar": ("tokenizer.json",),
    "rolling_forcing": ("tokenizer.json",),
}
ROLLING_CONFIG = "rolling.json"  # what the models of text-to-video streams read instead
ROLLING_MODELS = ("rolling_forcing", "rolling_text_encoder", "rolling_vae_decoder", "dit_window")


class Deployment(Protocol):
    """What a deployment on GPUs has in place of the graphs (`export.repository.deployment`)."""

    def models(self) -> list[str]:
        """Models of the repository."""

    def is_python(self, model: str) -> bool:
        """Whether the model's `model.py` is served; False where Triton runs a plan by itself."""

    def config(self, model: str, text: str) -> str:
        """The model's config.pbtxt, from that of the sources."""

    def files(self, model: str) -> dict[str, Path]:
        """Name in the model's version folder -> file that becomes it."""


def assemble(
    artifacts: Path | Sequence[Path],
    out: Path,
    *,
    sources: Path = REPO / "model_repository",
    pipeline: Path = REPO / "pipeline",
    models: Sequence[str] | None = None,
    steps: str = "",
    deployment: Deployment | None = None,
) -> Path:
    """Write the repository to `out`, replacing the one that lies there; returns `out`.

    artifacts: folder of the exported graphs, their safetensors and pipeline.json or rolling.json;
    several folders share one repository, each with the models that read its files.
    models: names to take from `sources` (None: all of these).
    steps: denoising steps of each stage as in `parse_steps`; stages beyond them are left out.
    deployment: plans on GPUs in the place of graphs; its models are those of the repository.
    `ValueError` names what is missing; `out` is then as it was before. A repository is built
    beside `out` and renamed at the end, so a server never loads half of one.
    """
    folders = [artifacts] if isinstance(artifacts, Path) else list(artifacts)
    names = _chosen(sources, deployment.models() if deployment else models, folders)
    if deployment is None:
        names, placed = _placed(names, steps, _source_of("live_avatar", folders), models is None)
    else:
        placed = []  # the deployment knows
    for folder in folders:
        own = [name for name in names if _source_of(name, folders) == folder]
        _check_artifacts(folder, sources, own, deployment)
    _check_replaceable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = out.with_name(f".{out.name}.new-{os.getpid()}")
    try:
        for name in names:
            folder = _source_of(name, folders)
            _assemble_model(sources / name, fresh / name, folder, pipeline, deployment)
            for config in (fresh / name).rglob("*.pbtxt") if placed else ():
                config.write_text(with_steps(name, config.read_text(), placed))
        (fresh / MARK).touch()
        _replace(fresh, out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return out


def _is_rolling(folder: Path) -> bool:
    """Whether these are the artifacts of text-to-video streams."""
    return (folder / ROLLING_CONFIG).is_file() and not (folder / PIPELINE_CONFIG).is_file()


def _source_of(model: str, folders: Sequence[Path]) -> Path:
    """The folder whose files a model reads; if there is none the first, to be found wanting."""
    rolling = model in ROLLING_MODELS
    return next((f for f in folders if _is_rolling(f) == rolling), folders[0])


def _chosen(sources: Path, models: Sequence[str] | None, folders: Sequence[Path]) -> list[str]:
    present = sorted(path.parent.name for path in sources.glob("*/config.pbtxt"))
    tenants = {_is_rolling(folder) for folder in folders}
    theirs = [name for name in present if (name in ROLLING_MODELS) in tenants]
    names = theirs if models is None else list(models)
    if not names:
        raise ValueError(f"no models: {sources} has no folder with a config.pbtxt")
    for name in names:
        if name not in present:
            raise ValueError(f"no model {name!r} in {sources}; there are {', '.join(present)}")
        if _kind(name) not in MODEL_FILES:
            raise ValueError(
                f"model {name!r} is not in MODEL_FILES of {Path(__file__).name}: "
                "say there which artifacts it loads"
            )
    return names


def _placed(
    names: list[str], steps: str, artifacts: Path, may_leave_out: bool
) -> tuple[list[str], list[list[int]]]:
    """The models without stages that own no step, and the steps of those that do."""
    stages = [name for name in names if is_stage(name)]
    if not stages or not (artifacts / PIPELINE_CONFIG).is_file():
        return names, []
    num_steps = json.loads((artifacts / PIPELINE_CONFIG).read_text())["num_steps"]
    placed = parse_steps(steps, num_steps)
    wanted = stage_names(placed)
    if missing := [name for name in wanted if name not in stages]:
        raise ValueError(
            f"{num_steps} steps want {', '.join(missing)}, which is not there; fold steps onto "
            f"the {len(stages)} stages that are, such as --steps 0,1 2,3"
        )
    if extra := [name for name in stages if name not in wanted and not may_leave_out]:
        raise ValueError(f"no step is left for {', '.join(extra)}; leave it out of --models")
    return [name for name in names if not is_stage(name) or name in wanted], placed


def _kind(model: str) -> str:
    return re.sub(r"_\d+$", "", model)


def _is_python(source: Path, deployment: Deployment | None) -> bool:
    if deployment is not None and not deployment.is_python(source.name):
        return False
    return (source / "1" / "model.py").exists()  # an ensemble has no code


def _files(source: Path, artifacts: Path, deployment: Deployment | None) -> list[str]:
    """The artifacts of one model, those it cannot do without first checked by the caller."""
    kind = _kind(source.name)
    wanted = list(MODEL_FILES[kind])
    if deployment is not None:  # the weights are in the plans
        wanted = [name for name in wanted if name in TABLES]
    wanted += [name for name in OPTIONAL_FILES.get(kind, ()) if (artifacts / name).exists()]
    config = ROLLING_CONFIG if kind in ROLLING_MODELS else PIPELINE_CONFIG
    return [config, HASHES, *wanted] if _is_python(source, deployment) else wanted


def _check_artifacts(
    artifacts: Path, sources: Path, names: Sequence[str], deployment: Deployment | None
) -> None:
    if not artifacts.is_dir():
        raise ValueError(f"there is no folder {artifacts}. Export writes it: make export")
    missing: dict[str, list[str]] = {}
    for name in names:
        for file in _files(sources / name, artifacts, deployment):
            if not (artifacts / file).is_file():
                missing.setdefault(file, []).append(name)
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


def _check_replaceable(out: Path) -> None:
    """Refuse to replace a folder that was not assembled here, such as the sources."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ValueError(f"{out} is not a folder; it is not replaced")
    if out.exists() and any(out.iterdir()) and not (out / MARK).exists():
        raise ValueError(f"{out} was not assembled by this command (no {MARK}): not replaced")


def _assemble_model(
    source: Path, target: Path, artifacts: Path, pipeline: Path, deployment: Deployment | None
) -> None:
    ignored = ["__pycache__", "*.pyc", ".gitkeep"]
    if deployment is not None:  # no graphs for a CPU in here
        ignored += ["configs", *([] if _is_python(source, deployment) else ["model.py"])]
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*ignored))
    version = target / "1"
    version.mkdir(exist_ok=True)  # Triton wants it for an ensemble too; git keeps no empty folder
    if _is_python(source, deployment):
        for module in sorted(pipeline.rglob("*.py")):
            copy = version / "pipeline" / module.relative_to(pipeline)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(module, copy)  # a link would change under a server when edited
    for name in _files(source, artifacts, deployment):
        _link_or_copy(artifacts / name, version / name)
    if deployment is not None:
        config = target / "config.pbtxt"
        config.write_text(deployment.config(source.name, config.read_text()))
        for name, path in deployment.files(source.name).items():
            _link_or_copy(path, version / name)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)  # the file itself, where the artifact is a symbolic link
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


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


def why_not_written(error: Exception, out: Path) -> str:
    """Why the repository `out` was not written, in one line."""
    if isinstance(error, shutil.Error):  # of a copied folder: a list of files and words
        error = OSError(error.args[0][0][2])
    if isinstance(error, OSError):
        return f"{out} is not written ({error}): make room and rights, or name another REPOSITORY="
    return str(error)


def main() -> int:
    parser = argparse.ArgumentParser(description="Assemble the Triton model repository.")
    parser.add_argument("--artifacts", type=Path, required=True, nargs="+")
    parser.add_argument("--out", type=Path, default=REPO / "build" / "model_repository")
    parser.add_argument("--models", help="comma-separated names; all if not given")
    parser.add_argument(
        "--steps", default="", help="steps of each stage, such as '0,1 2,3'; one each if not given"
    )
    given = parser.parse_args()
    models = given.models.split(",") if given.models else None
    try:
        out = assemble(given.artifacts, given.out.absolute(), models=models, steps=given.steps)
    except (ValueError, OSError) as error:
        print(f"error: {why_not_written(error, given.out)}", file=sys.stderr)
        return 1
    names = sorted(path.parent.name for path in out.glob("*/config.pbtxt"))
    print(f"{given.out}: {', '.join(names)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
