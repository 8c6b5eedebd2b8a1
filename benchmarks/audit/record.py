"""A report as a file: `DATE-COMMIT.json`, which says where, with what and of what it is."""

import datetime
import json
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.audit.parts import GROWTH, Part, part_named
from benchmarks.audit.running import Run
from benchmarks.report import machine
from deploy.downloads import triton
from pipeline.identity.file_hashes import sha256_of

FORMAT = 1
PACKAGES = ("numpy", "onnxruntime", "torch", "tritonclient", "grpcio", "av")
TRITON = "nvidia-pytriton"
"""The wheel that Triton is unpacked from."""
HASHED = (".onnx", ".safetensors", ".plan")
KEYS = {"report", "date", "commit", "sizes", "machine", "versions", "preset", "artifacts", "parts"}


def head(repository: Path, is_quick: bool) -> dict[str, Any]:
    """All of a report but its parts. ValueError if `repository` is no avatar's."""
    said = machine()
    commit = said.pop("commit")
    versions = {"python": said.pop("python"), TRITON: _locked(triton.LOCK)}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "report": FORMAT,
        "date": datetime.date.today().isoformat(),
        "commit": commit,
        "sizes": "small" if is_quick else "full",
        "machine": said,
        "versions": versions,
        "preset": preset(repository),
        "artifacts": artifacts(repository),
        "parts": {},
    }


def preset(repository: Path) -> dict[str, Any]:
    """Name and size of what is served; ValueError with the fix where nothing is."""
    path = repository / "live_avatar" / "1" / "pipeline.json"
    if not path.is_file():
        raise ValueError(f"{repository} is no avatar's repository, {path} is missing: "
                         "make repository")  # fmt: skip
    config = json.loads(path.read_text())
    return {key: config[key] for key in ("preset", "height", "width", "num_steps")}


def artifacts(repository: Path) -> dict[str, str]:
    """Graphs, weights and plans of what is served: `model/file` to sha256."""
    files = sorted(file for file in repository.glob("*/1/*") if file.suffix in HASHED)
    return {f"{file.parts[-3]}/{file.name}": sha256_of(file) for file in files}


def _locked(lock: Path) -> str:
    """The version that a lock of one package names."""
    found = re.search(rf"^{TRITON}==(\S+)", lock.read_text(), re.MULTILINE)
    return found[1] if found else "unknown"


def part_record(
    part: Part, is_quick: bool, runs: Sequence[Run], reason: str = ""
) -> dict[str, Any]:
    """What a report says of a part. It counts as measured if every run was."""
    failed = next((run.reason for run in runs if run.result is None), "")
    return {
        "module": part.module,
        "question": part.question,
        "options": part.options(is_quick),
        "not_measured": reason or failed,
        "runs": [run.saved() for run in runs],
    }


def soaked(path: Path) -> dict[str, Any]:
    """The part `growth`, of a file with what `benchmarks.soak` printed; ValueError if it did not
    end well."""
    lines = path.read_text().splitlines() or [""]
    try:
        said = json.loads(lines[-1])
    except ValueError:
        said = None
    if not isinstance(said, dict) or said.get("benchmark") != "soak":
        raise ValueError(f"{path} does not end with the JSON object of benchmarks.soak")
    if bad := [*said["ended"], *said["over"]]:
        raise ValueError(f"{path}: the soak failed: {'; '.join(bad)}")
    run = Run(seconds=said["seconds"], result=said, reason="", memory_mb=[])
    options = f"--blocks {said['blocks'] // 2} --reloads {said['reloads']}"
    return part_record(part_named(GROWTH), False, [run]) | {"options": options}


def results(part: dict[str, Any]) -> list[dict[str, Any]]:
    """The last lines of a part's runs; none if it was not measured."""
    return [] if part["not_measured"] else [run["result"] for run in part["runs"]]


def continued(earlier: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The earlier report, for parts that are measured now; ValueError where what it was measured on
    and with is another: one table would have figures of both."""
    for key in ("sizes", "preset", "versions", "artifacts"):
        if earlier[key] != now[key]:
            raise ValueError(f"the earlier report has other {key}: {earlier[key]}, now {now[key]}")
    machines = [[report["machine"][key] for key in ("cpu", "cores")] for report in (earlier, now)]
    if machines[0] != machines[1]:
        raise ValueError(f"the earlier report is of another machine: {machines[0]}")
    return earlier


def save(report: dict[str, Any], folder: Path, path: Path | None = None) -> Path:
    """Write it to `path`, else under a name of its own; an earlier report of the same day and
    commit stays."""
    text = json.dumps(report, indent=1) + "\n"
    if path is not None:
        path.write_text(text)
        return path
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{report['date']}-{report['commit']}"
    names = [stem, *(f"{stem}-{count}" for count in range(2, 1000))]
    path = next(p for name in names if not (p := folder / f"{name}.json").exists())
    path.write_text(text)
    return path


def load(path: Path) -> dict[str, Any]:
    """A saved report; ValueError if the file is none."""
    try:
        report = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(report, dict) or report.keys() < KEYS or report["report"] != FORMAT:
        raise ValueError(f"{path} is no report of benchmarks.audit, format {FORMAT}")
    return report
