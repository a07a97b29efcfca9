"""What the site adds to its pages agrees with the code, and the site builds and reads offline."""

import dataclasses
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import get_type_hints

import nbformat
import pytest
import site_hooks
import site_notebook
import site_pages
import site_picture
from mkdocs.config.defaults import MkDocsConfig

from toyfcn.config import commands

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def options_of(schema: type, prefix: str = "") -> set[str]:
    names = set()
    for item in dataclasses.fields(schema):
        kind = get_type_hints(schema)[item.name]
        if dataclasses.is_dataclass(kind):
            for part in (kind, *kind.__subclasses__()):
                names |= options_of(part, f"{prefix}{item.name}.")
        elif item.metadata:
            names.add(f"{prefix}{item.name}".rstrip("_"))  # from_ is typed as from=
    return names


def test_the_tables_have_every_option_of_the_schema() -> None:
    page = site_pages.options(ROOT / "conf")
    wanted = set().union(*(options_of(schema) for schema in commands.COMMANDS.values()))
    assert {"recipe.lr", "data.year", "data.world_seed", "sweep.n_trials"} <= wanted
    assert set(re.findall(r"^\| `([a-z0-9_.]+)` \|", page, re.M)) == wanted
    assert "| `recipe.optimizer` | `adamw` | adamw, sgd, muon |" in page
    assert "| `data.flip` | `0.5` | 0 to 1 | probability of a mirror image in training |" in page


def test_the_tables_list_every_file_of_the_groups() -> None:
    page = site_pages.options(ROOT / "conf")
    for path in (ROOT / "conf").glob("*/*.yaml"):
        assert f"| `{path.parent.name}={path.stem}` | " in page
    assert all(row.count("|") == row.count("\\|") + 3 for row in re.findall(r"^\| `\w+=.*", page))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_page_expands(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(re.findall(r"^<!--", text, re.M)) == len(site_hooks.MARK.findall(text))
    assert not site_hooks.MARK.search(site_hooks.expand(text))


def test_an_excerpt_is_the_source_without_its_docstring(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        'class A:\n    """Doc."""\n\n    def f(self):\n        """Doc\n\n        x.\n        """\n'
        "        return 1\n\n\nB = 2\n"
    )
    assert site_pages.excerpt(tmp_path, "a.py", "A.f") == (
        '```python title="src/toyfcn/a.py, lines 4 to 9"\ndef f(self):\n    return 1\n```'
    )
    assert "lines 12 to 12" in site_pages.excerpt(tmp_path, "a.py", "B")
    with pytest.raises(ValueError, match=r"a\.py has no A\.g"):
        site_pages.excerpt(tmp_path, "a.py", "A.g")
    with pytest.raises(ValueError, match="does not exist"):
        site_pages.excerpt(tmp_path, "b.py", "A")
    with pytest.raises(ValueError, match="does not exist"):
        site_pages.include(tmp_path / "C.md")


def test_section_3_1_of_the_paper_shows_the_reshape() -> None:
    page = site_hooks.expand((ROOT / "docs/paper.md").read_text(encoding="utf-8"))
    section = page.partition("## 3.1")[2].partition("## 3.2")[0]
    assert "return weight.view(shape)" in section
    assert "def forward(self, x: Tensor)" in section


def words(picture: str) -> list[str]:
    drawing = re.search(r"<svg.*</svg>", picture, re.S)
    assert drawing is not None
    texts = ElementTree.fromstring(drawing[0]).iter("text")  # and it is well-formed
    return [text.text or "" for text in texts]


def test_the_picture_of_fcn8s_shows_the_papers_numbers() -> None:
    seen = words(site_picture.figure("fcn_vgg16", ["stride=8", "geometry=paper"]))
    for crop in ("crop 5", "crop 9", "16×16, crop 31"):  # the release's
        assert crop in seen
    assert seen.count("score") == 3
    assert seen.count("upsample ×2") == 2
    assert "4096 · 7×7" in seen  # fc6
    assert "field 404" in seen  # of FCN-32s in the paper, table 1
    assert {f"stride {2**power}" for power in range(6)} <= set(seen)


def test_the_picture_of_lenet_has_its_layers_in_order() -> None:
    seen = words(site_picture.figure("fcn_lenet", ["stride=2"]))
    names = [word for word in seen if word in ("C1", "S2", "C3", "S4", "C5", "F6")]
    assert names == ["C1", "S2", "C3", "S4", "C5", "F6"]
    assert "field 32" in seen
    with pytest.raises(ValueError, match="pool cannot be set"):
        site_picture.figure("fcn_lenet", ["stride=2", "pool=avg"])


def test_a_page_that_nobody_named_is_in_the_menu(tmp_path: Path) -> None:
    for name in ("data.md", "new.md"):
        (tmp_path / name).touch()
    config = MkDocsConfig()
    config.docs_dir, config.nav = str(tmp_path), [{"Use": [{"Data": "data.md"}]}]
    site_hooks.on_config(config)
    assert config.nav == [{"Use": [{"Data": "data.md"}, "new.md"]}]


def test_the_workflow_runs_make_targets() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    steps = re.findall(r"run: (.*)", (ROOT / ".github/workflows/ci.yml").read_text())
    assert steps == [f"make {name}" for name in ("setup", "lint", "test", "docs", "test-slow")]
    assert {step.removeprefix("make ") for step in steps} <= set(targets)


def test_the_notebook_is_committed_without_outputs() -> None:
    notebook = nbformat.read(ROOT / "docs/first_steps.ipynb", as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.slow
def test_the_notebook_runs_and_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    page, pictures = site_notebook.run(ROOT / "docs/first_steps.ipynb")
    assert len(pictures) == 4
    assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())
    assert "loss 1.9459, ln(7) = 1.9459" in page
    figures = re.search(r"mean IU ([\d.]+), background everywhere ([\d.]+)", page)
    assert figures is not None
    assert float(figures[1]) > 2 * float(figures[2])


@pytest.mark.slow
def test_the_site_builds_strictly_and_asks_the_network_for_nothing(tmp_path: Path) -> None:
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "true"}
    environment |= {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", tmp_path],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert "WARNING" not in answer.stdout + answer.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert {"index.html", "options.html", "paper.html", "first_steps.html"} <= {
        p.name for p in pages
    }
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loads = re.findall(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=\"?([^\"\s>]+)", text)
        assert loads
        assert not [url for url in loads if re.match(r"(https?:)?//", url)]
        assert 'class="mermaid"' not in text
    styles = "".join(path.read_text() for path in tmp_path.rglob("*.css"))
    assert not re.search(r"(?:url\(|@import )[\"']?(?:https?:)?//", styles)
    assert "location.protocol" in (tmp_path / "assets/iframe-worker.js").read_text()
