"""docs/architecture.md names every package, and only files and names that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src/toyfcn"
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py)(?:: ([\w.]+))?`", PAGE)


def names_in(path: Path) -> set[str]:
    """All functions and classes of a module, methods as Class.method."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{f.name}" for f in node.body if isinstance(f, ast.FunctionDef)}
    return found


@pytest.mark.parametrize(("file", "name"), [pair for pair in NAMED if "/" in pair[0]])
def test_what_the_page_names_exists(file: str, name: str) -> None:
    path = SOURCE / file
    assert path.is_file()
    assert not name or name in names_in(path)


def test_the_table_has_a_row_for_each_package_and_flat_module() -> None:
    table = PAGE.partition("| where ")[2].partition("\n\n")[0]
    assert len(table.splitlines()) <= 22  # with its two lines of heading
    packages = {path.parent for path in SOURCE.rglob("__init__.py")} - {SOURCE}
    packages = {p for p in packages if p.parent != SOURCE / "new_project"} | {
        SOURCE / "new_project"
    }
    modules = {path for path in SOURCE.glob("*.py") if path.name != "__init__.py"}
    for path in packages:
        assert f"`{path.relative_to(SOURCE)}/`" in table
    for path in modules:
        assert f"`{path.name}`" in table


def test_the_page_has_the_directions_that_lint_checks() -> None:
    (line,) = re.findall(r"^files, text, hardware < .*", PAGE, re.M)
    contracts = (ROOT / "pyproject.toml").read_text().partition("layers = [")[2].partition("]")[0]
    layers = [set(re.findall(r"\w+", words)) for words in re.findall(r'"(.*)"', contracts)]
    assert [set(re.findall(r"\w+", words)) for words in line.split(" < ")] == layers[::-1]
