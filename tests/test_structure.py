"""What the documentation names is there: files, packages, modules, pages and their headings."""

import re
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
STRUCTURE = (REPO / "docs" / "structure.md").read_text()
MAPS = ("README.md", "docs/structure.md", "docs/design.md")
"""Pages that lead a reader to files."""
HISTORY = {"docs/log.md"}
"""Pages that name files as they were."""
PAGES = sorted(
    str(page.relative_to(REPO))
    for page in (*REPO.glob("*.md"), *REPO.glob("docs/*.md"))
    if page.name != "CHANGELOG.md"
)
PACKAGED = ("pipeline", "export", "train", "client", "deploy")
FOLDERS = {path.name for path in REPO.glob("[!.]*") if path.is_dir()} - {"build", "out"}
MODULES = {"pipeline", "networks", "export", "train", "deploy", "benchmarks", "tests"}
DOTTED = re.compile(r"[a-z]\w*(\.(?!json$)\w+)+")


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def inline_code(text: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", without_code(text)))


def named_paths(text: str) -> set[str]:
    """Paths from the repository's root, `*` allowed, in inline code."""
    return {
        code.rstrip("/")
        for code in inline_code(text)
        if re.fullmatch(r"[\w./*-]+", code) and "/" in code and code.split("/")[0] in FOLDERS
    }


def is_module(name: str) -> bool:
    """Whether a dotted name is a module or package of ours, or something in one."""
    parts = name.split(".")
    for count in range(len(parts), 1, -1):
        path = REPO.joinpath(*parts[:count])
        if path.with_suffix(".py").is_file():
            return True
        if path.is_dir():
            return count == len(parts)
    return False


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links."""
    found: set[str] = set()
    for title in re.findall(r"^#+ (.+)$", without_code(page.read_text()), re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        again = sum(name == plain or name.startswith(f"{plain}-") for name in found)
        found.add(f"{plain}-{again}" if plain in found else plain)
    return found


@pytest.mark.parametrize("page", MAPS)
def test_every_path_that_a_map_names_is_there(page: str) -> None:
    """A newcomer would look for a file that has moved."""
    paths = named_paths((REPO / page).read_text())
    assert paths
    assert {path for path in paths if not any(REPO.glob(path))} == set()


@pytest.mark.parametrize("page", MAPS)
def test_every_file_that_a_map_names_without_its_folder_is_there(page: str) -> None:
    """The same, for names in running text."""
    names = {c for c in inline_code((REPO / page).read_text()) if re.fullmatch(r"\w+\.py", c)}
    here = {path.name for folder in FOLDERS for path in (REPO / folder).rglob("*.py")}
    assert names - here == set()


@pytest.mark.parametrize("page", [page for page in PAGES if page not in HISTORY])
def test_every_module_that_a_page_names_is_there(page: str) -> None:
    """A command that is copied from a page would not start."""
    text = (REPO / page).read_text()
    commands = re.findall(r"python -m ([\w.]+)", text)
    dotted = {code for code in inline_code(text) if DOTTED.fullmatch(code)}
    names = {name for name in (*commands, *dotted) if name.split(".")[0] in MODULES}
    assert {name for name in names if not is_module(name)} == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    """A link to a heading that was renamed lands at the top of its page, without a word."""
    here = REPO / page
    lost = set()
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(here.read_text())):
        if link.startswith("http"):
            continue
        name, _, anchor = link.partition("#")
        target = here.parent / name if name else here
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.add(link)
    assert lost == set()


@pytest.mark.parametrize("folder", PACKAGED)
def test_structure_names_every_package(folder: str) -> None:
    """A package that the map leaves out is found by chance."""
    files = [file.relative_to(REPO) for file in (REPO / folder).rglob("__init__.py")]
    packages = {str(file.parent) for file in files if "build" not in file.parts}
    assert packages
    assert {name for name in packages if f"`{name}/`" not in STRUCTURE} == set()


def test_every_section_that_the_code_cites_is_there() -> None:
    """A comment would send its reader to a formula that is somewhere else."""
    method = (REPO / "docs" / "method.md").read_text()
    there = set(re.findall(r"^## (\d+) ", method, re.MULTILINE))
    sources = [path for folder in FOLDERS for path in (REPO / folder).rglob("*.py")]
    cited = {
        number
        for path in sources
        for numbers in re.findall(
            r"docs/method\.md,?\s+sections?\s+(\d+(?:(?:, | and | to )\d+)*)", path.read_text()
        )
        for number in re.findall(r"\d+", numbers)
    }
    assert cited
    assert cited - there == set()
