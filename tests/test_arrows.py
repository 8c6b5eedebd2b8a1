"""Which of our packages may import which."""

import ast
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent

OURS = {"pipeline", "networks", "export", "train", "client", "live_avatar_client", "deploy"}
OURS |= {"benchmarks", "tests"}
ARROWS = {  # folder: what it must not import
    "pipeline": (OURS - {"pipeline"}) | {"torch"},
    "networks": OURS - {"networks", "pipeline"},
    "export": OURS - {"export", "networks", "pipeline"},
    "train": OURS - {"train", "networks", "pipeline"},
    "client": (OURS - {"live_avatar_client"}) | {"torch"},
    "deploy": OURS - {"deploy"},
}

EXPORT = {  # part of export: the other parts that it may import
    "commands": set(),
    "presets": {"commands"},
    "checkpoint": {"commands", "presets", "repository"},
    "repository": set(),
    "graphs": {"presets", "checkpoint", "repository"},
    "to_onnx": {"commands", "presets", "graphs"},
    "engines": {"commands", "repository"},
    "checks": {"commands", "presets", "checkpoint", "repository", "graphs", "engines"},
}
WITHOUT_TORCH = ("engines", "repository")
"""Of export: what the image runs, which has neither torch nor the networks."""


def imports(file: Path) -> set[str]:
    """Every module a file imports, at any depth of its code, with full dotted names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


@pytest.mark.parametrize("folder", sorted(ARROWS))
def test_imports_follow_the_arrows(folder: str) -> None:
    """`pipeline` is copied into each model alone: any other import breaks there, and only there."""
    files = sorted((REPO / folder).rglob("*.py"))
    assert files
    found = {
        f"{file.relative_to(REPO)} imports {name}"
        for file in files
        for name in imports(file)
        if name.split(".")[0] in ARROWS[folder]
    }
    assert found == set()


ROOMS = {  # package of `pipeline`: the others that it may import
    "config": set(),
    "identity": set(),
    "pictures": {"config"},
    "denoising": {"config"},
    "engines": {"config", "denoising", "identity"},
    "sessions": {"config", "engines"},
    "avatar": {"config", "denoising", "engines", "pictures", "sessions"},
    "rolling": {"config", "denoising", "engines", "sessions"},
    "triton": {"config", "engines", "identity", "sessions", "avatar", "rolling", "triton"},
}


def test_every_package_of_the_pipeline_has_its_arrows() -> None:
    """A new one would be held by nothing."""
    packages = {path.parent.name for path in (REPO / "pipeline").glob("*/__init__.py")}
    assert packages == set(ROOMS)


@pytest.mark.parametrize("package", ROOMS)
def test_the_pipelines_arrows_go_one_way(package: str) -> None:
    """Above all: avatar and rolling never meet, and Triton is known in one package."""
    allowed = {f"pipeline.{name}" for name in {package, *ROOMS[package]}}
    found = {
        f"{file.relative_to(REPO)} imports {name}"
        for file in sorted((REPO / "pipeline" / package).glob("*.py"))
        for name in imports(file)
        if name.startswith("pipeline.") and ".".join(name.split(".")[:2]) not in allowed
    }
    assert found == set()


def test_triton_is_known_in_one_package() -> None:
    """What runs without a server must not need its module."""
    found = {
        str(file.relative_to(REPO / "pipeline").parent)
        for file in sorted((REPO / "pipeline").rglob("*.py"))
        if "triton_python_backend_utils" in imports(file)
    }
    assert found == {"triton"}


def test_networks_know_only_the_config_of_the_pipeline() -> None:
    """The network definitions are used where nothing of the server is installed."""
    found = {
        f"{file.name} imports {name}"
        for file in sorted((REPO / "networks").rglob("*.py"))
        for name in imports(file)
        if name.startswith("pipeline.") and not name.startswith("pipeline.config")
    }
    assert found == set()


@pytest.mark.parametrize(
    "path",
    [
        "deploy",
        "export/repository",
        "pipeline/config",
        "pipeline/engines/manifest.py",
        "pipeline/identity/file_hashes.py",
    ],
)
def test_what_runs_before_the_environment_needs_the_standard_library_only(path: str) -> None:
    """`make fetch` and `make repository` must not need packages that are not installed yet."""
    root = REPO / path
    files = [root] if root.is_file() else sorted(root.rglob("*.py"))
    files = [file for file in files if file.parent.name != "monitoring"]  # runs on no server
    allowed = set(sys.stdlib_module_names) | {"deploy", "__future__"}
    names = {name for file in files for name in imports(file)}
    checked_itself = ("export.repository", "pipeline.config", "pipeline.engines.manifest")
    checked_itself += ("pipeline.identity.file_hashes",)
    ours = {name for name in names if name.startswith(checked_itself)}
    found = {name.split(".")[0] for name in names - ours} - allowed
    assert found == set()


@pytest.mark.parametrize("part", sorted(EXPORT))
def test_the_parts_of_export_follow_their_arrows(part: str) -> None:
    """A circle, or torch on the machine that builds the engines."""
    path = REPO / "export" / part
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    forbidden = {f"export.{other}" for other in EXPORT.keys() - EXPORT[part] - {part}}
    forbidden |= {"torch", "networks"} if part in WITHOUT_TORCH else set()
    found = {
        f"{file.relative_to(REPO)} imports {name}"
        for file in files
        for name in imports(file)
        if name.split(".")[0] in forbidden or ".".join(name.split(".")[:2]) in forbidden
    }
    assert found == set()


def test_every_part_of_export_has_its_arrows() -> None:
    """A new one would be held to none."""
    parts = {path.stem for path in (REPO / "export").glob("[!_]*") if path.suffix in ("", ".py")}
    assert parts == set(EXPORT)
