"""What `make docs` adds to the pages: MkDocs calls the functions on_… while it builds the site.

A page asks for it by a comment, which readers of the plain file do not see:

    <!-- picture fcn_lenet stride=2 -->             a network, drawn from the model itself
    <!-- excerpt models/fcn.py FCN.score_map -->    a function or class, from the source
    <!-- options -->                                tables of every option, from the schema
    <!-- include CHANGELOG.md -->                   a file at the top of the repository
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import site_notebook
import site_pages
import site_picture
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
MARK = re.compile(r"^<!-- (picture|excerpt|options|include)\b *(.*?) *-->$", re.M)


def expand(markdown: str) -> str:
    """Replace a page's comments by what they ask for.

    Raises:
        ValueError: an excerpt, file or option that does not exist.
    """

    def put(found: re.Match[str]) -> str:
        kind, words = found[1], found[2].split()
        if kind == "picture":
            return site_picture.figure(words[0], words[1:])
        if kind == "excerpt":
            return site_pages.excerpt(ROOT / "src/toyfcn", words[0], words[1])
        if kind == "options":
            return site_pages.options(ROOT / "conf")
        return site_pages.include(ROOT / words[0])

    return MARK.sub(put, markdown)


def on_config(config: MkDocsConfig) -> None:
    """Add the pages that mkdocs.yml does not name to the menu, in its section Use."""
    named = json.dumps(config.nav)
    (section,) = (part["Use"] for part in config.nav or [] if "Use" in part)
    for path in sorted(Path(config.docs_dir).glob("*.md")):
        if f'"{path.name}"' not in named:
            section.append(path.name)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Expand each page before it is rendered."""
    return expand(markdown)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Run the notebook, and add it as a page with the pictures that it draws."""
    page, pictures = site_notebook.run(ROOT / "docs/first_steps.ipynb")
    files.append(File.generated(config, "first_steps.md", content=page))
    for name, content in pictures.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_post_build(config: MkDocsConfig) -> None:
    """Make the search work from disk: there browsers start workers from text, not from a file."""
    site = Path(config.site_dir)
    (worker,) = (site / "assets/javascripts/workers").glob("search.*.min.js")
    source = json.dumps(worker.read_text(encoding="utf-8"))
    (site / "assets/iframe-worker.js").write_text(
        'if (location.protocol === "file:") {\n'
        f"  const source = {source};\n"
        "  const FileWorker = window.Worker;\n"
        "  window.Worker = class extends FileWorker {\n"
        "    constructor() { super(URL.createObjectURL(new Blob([source]))); }\n"
        "  };\n"
        "}\n",
        encoding="utf-8",
    )
