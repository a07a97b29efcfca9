"""Parts of pages that come from the source: option tables, excerpts, files of the repository."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from toyfcn.cli import help
from toyfcn.config import commands

Field = dataclasses.Field[Any]


def options(conf: Path) -> str:
    """Return tables of every option of every command, one per group, as Markdown."""
    parts, groups = ["## Commands"], dict[str, type]()
    for command, schema in commands.COMMANDS.items():
        name = {"describe": "model", "convert": "data convert"}.get(command, command)
        parts.append(f"### toyfcn-{name}")
        parts.append((inspect.getdoc(schema) or "").partition("\n\n")[0])
        parts.append(table(dataclasses.fields(schema)))
        groups = help.groups_in(schema) | groups  # the trainer has more options than scoring
    parts.append("## Groups")
    for name, kind in groups.items():
        common = dataclasses.fields(kind)
        parts += [f"### {name}", inspect.getdoc(kind) or "", choices(conf / name)]
        parts.append(table(common, f"{name}."))
        for special in list[type](kind.__subclasses__()):
            own = [f for f in dataclasses.fields(special) if differs(f, common)]
            about = (inspect.getdoc(special) or "").partition("\n")[0]
            parts += [f"Only for {about[:1].lower()}{about[1:]}", table(own, f"{name}.")]
    for name in ("experiment", "debug", "launcher"):
        parts += [f"### {name}", choices(conf / name)]
    return "\n\n".join(part for part in parts if part)


def differs(item: Field, common: Iterable[Field]) -> bool:
    """Tell whether a subclass's option is new or has another default."""
    return all(item.name != c.name or help.default(item) != help.default(c) for c in common)


def table(fields: Iterable[Field], prefix: str = "") -> str:
    """Return one table: option, default, values, meaning."""
    rows = []
    for item in fields:
        if item.metadata:
            default = help.default(item) or "empty"
            text = str(item.metadata["meaning"])
            allowed = help.meaning(item)[len(text) :].strip(" ()").replace(" | ", ", ")
            name = f"{prefix}{item.name}".rstrip("_")  # from_ is typed as from=
            cells = (f"`{name}`", f"`{default}`", allowed, text.replace("|", "\\|"))
            rows.append(f"| {' | '.join(cells)} |")
    head = ["| option | default | values | meaning |", "|---|---|---|---|"]
    return "\n".join([*head, *rows]) if rows else ""


def choices(folder: Path) -> str:
    """Return a table of a group's files, each with the first sentence of its comment."""
    rows = []
    for path in sorted(folder.glob("*.yaml")):
        comment = re.findall(r"^# (?!@package)(.*)", path.read_text(encoding="utf-8"), re.M)
        sentence = re.split(r"(?<=[.?]) |:$", " ".join(comment[:2]))[0]
        rows.append(f"| `{folder.name}={path.stem}` | {sentence.replace('|', chr(92) + '|')} |")
    return "\n".join(["| choice | what |", "|---|---|", *rows]) if rows else ""


def excerpt(source: Path, file: str, name: str) -> str:
    """Return a function, method or class without its docstring, with file and lines, as Markdown.

    ``name`` is its dotted path in the file (``FCN.score_map``).

    Raises:
        ValueError: no such file or name.
    """
    path = source / file
    if not path.is_file():
        raise ValueError(f"excerpt: {path} does not exist")
    text = path.read_text(encoding="utf-8")
    node: Any = ast.parse(text)
    for part in name.split("."):
        inside = [n for n in node.body if getattr(n, "name", None) == part or assigns(n, part)]
        if not inside:
            raise ValueError(f"excerpt: {file} has no {name}")
        node = inside[0]
    lines = text.splitlines()
    first, last = node.lineno, node.end_lineno
    kept = lines[first - 1 : last]
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
        doc = node.body[0]
        assert doc.end_lineno is not None
        kept = lines[first - 1 : doc.lineno - 1] + lines[doc.end_lineno : last]
    code = textwrap.dedent("\n".join(kept)).rstrip()
    return f'```python title="src/toyfcn/{file}, lines {first} to {last}"\n{code}\n```'


def assigns(node: ast.stmt, name: str) -> bool:
    """Tell whether a statement assigns a constant."""
    return isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id == name for target in node.targets
    )


def include(path: Path) -> str:
    """Return a file of the repository's root, with its links changed to the site's pages.

    Raises:
        ValueError: no such file.
    """
    if not path.is_file():
        raise ValueError(f"include: {path} does not exist")
    return path.read_text(encoding="utf-8").replace("](docs/", "](")
