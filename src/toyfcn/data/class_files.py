"""Files of class names, as people and labeling tools write them: understood, or refused by name."""

from __future__ import annotations

import re
from pathlib import Path

from toyfcn.config.data import FolderConfig
from toyfcn.data.labels import NAME_OF_VOID

IGNORE = "__ignore__"  # labelme's label -1: void, and no class
NUMBERED = re.compile(r"(-?\d+)(?:\s*[:,;=.)]\s*|\s+)(\S.*)")  # 0 background; 0: background; …
NUMBER_LAST = re.compile(r"(.*\S)\s*[:,;=\t]\s*(-?\d+)")  # background: 0; background,0; …
COLORED = re.compile(r"(.*\S)\s*[:,;\s]\s*(\d+)[\s,;]+(\d+)[\s,;]+(\d+)(?:::|:.*:.*|)")
COLOR_FIRST = re.compile(r"(\d+)[\s,;]+(\d+)[\s,;]+(\d+)[\s,;:]+(\S.*)")
OTHER = (
    (re.compile(r"[\[{]\s*([\[{\"]|$)"), "JSON"),
    (re.compile(r"<(\?xml.*|[a-z]+>$)"), "XML"),
    (re.compile(r"\|.*\|$"), "a table"),
    (re.compile(r"(item|name|names|classes|labels)\s*[:{=]|-\s|---$"), "YAML or a label map"),
)


def read_class_file(path: Path, void: int | None) -> list[str]:
    """Return the names of the labels from 0 on: a name a line, with its label or without.

    Blank lines, lines that begin with # and labelme's ``__ignore__`` are left out, and so is a
    numbered line of the label ``void``.

    Raises:
        ValueError: the file cannot be read, or is of a format that says something else; the message
            says what to write instead.
    """
    try:
        content = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read data.classes_file={path}: {error}") from None
    lines = [text for line in content if (text := line.strip()) and not text.startswith("#")]
    refuse_other_formats(path, lines)
    if lines and lines[0] == IGNORE:
        lines = lines[1:]
    for pattern, name_at, label_at in ((NUMBERED, 2, 1), (NUMBER_LAST, 1, 2)):
        found = [pattern.fullmatch(line) for line in lines]
        pairs = [(int(match[label_at]), match[name_at].strip("\"'")) for match in found if match]
        pairs = [(label, name) for label, name in pairs if label >= 0 and label != (void or -1)]
        labels = [label for label, _ in pairs]
        heading = len(pairs) > 1 and found[0] is None and all(found[1:])  # as of a table
        counted = labels == list(range(labels[0], labels[0] + len(labels))) if labels else False
        if found and (all(found) or (heading and counted and labels[0] < 2)):
            return in_order(path, pairs)
    return lines


def in_order(path: Path, pairs: list[tuple[int, str]]) -> list[str]:
    """Return the names of (label, name) by their labels.

    Raises:
        ValueError: the labels are not those from 0 on.
    """
    names = dict(sorted(pairs))
    if list(names) != list(range(len(pairs))):
        missing = min(set(range(len(pairs))) - set(names))
        raise ValueError(
            f"data.classes_file={path} numbers its classes, so it must name every label from 0 on "
            f"once, but {missing} has no name"
        )
    return list(names.values())


def refuse_other_formats(path: Path, lines: list[str]) -> None:
    """Refuse files of names with colors, and of formats with a structure.

    Raises:
        ValueError: it is such a file; where that can be told, with the options to set instead.
    """
    if not lines:
        return
    for pattern, kind in OTHER:
        if pattern.match(lines[0]):
            raise ValueError(
                f"data.classes_file={path} looks like {kind}, but must have a class a line (or set "
                "data.classes=[name,…])"
            )
    for pattern, name_at, color_at in ((COLORED, 1, 2), (COLOR_FIRST, 4, 1)):
        found = [pattern.fullmatch(line) for line in lines]
        found = found[1:] if len(lines) > 2 and found[0] is None else found  # below a heading
        if all(found):
            names = [match[name_at].strip(' "') for match in found if match]
            colors = [[int(match[color_at + i]) for i in range(3)] for match in found if match]
            plain = re.compile(r"[A-Za-z_][\w ]*")
            quoted = [name if plain.fullmatch(name) else f'"{name}"' for name in names]
            raise ValueError(
                f"data.classes_file={path} has colors beside its names, as CVAT's labelmap.txt: "
                f"instead set 'data.classes=[{','.join(quoted)}]' and, where the masks have these "
                f"colors, 'data.colours={str(colors).replace(' ', '')}'"
            )


def class_names(config: FolderConfig, root: Path) -> tuple[str, ...]:
    """Return the classes that a config names, or the file that it names.

    Raises:
        ValueError: both or neither are given, the file is unreadable, or the names are no good.
    """
    names, option = list(config.classes), "data.classes"
    if config.classes_file is not None:
        if names:
            raise ValueError("data.classes and data.classes_file are both given: choose one")
        option = str(path := root / config.classes_file)
        names = read_class_file(path, config.void)
    elif not names and isinstance(config.values, dict):
        named = [str(name) for name in config.values.values()]
        names, option = [n for n in dict.fromkeys(named) if n != NAME_OF_VOID], "data.values"
    if not 2 <= len(names) <= 255:
        raise ValueError(
            f"{option} names {len(names)} classes: data=folder needs 2 to 255, label 0 first, such "
            "as data.classes=[background,cat]"
        )
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{option} names {twice[0]!r} twice")
    if odd := [name for name in names if not name.strip() or not name.isprintable()]:
        raise ValueError(f"{option} names {odd[0]!r}, which cannot be printed")
    return tuple(names)
