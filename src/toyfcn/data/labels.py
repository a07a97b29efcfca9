"""Which label a mask's values stand for: data.values, and the classes that data.merge makes one."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from toyfcn.data.source import UNKNOWN, VOID, Source

NAME_OF_VOID = "void"  # in data.values and data.merge, unless a class is called so
S = TypeVar("S", bound=Source)


def value_table(values: Any, classes: Sequence[str], void: int | None) -> tuple[int, ...]:
    """Return the table of data.values: a list in the classes' order, or {value: class or void}.

    The value ``void`` is void unless ``values`` has it.

    Raises:
        ValueError: there are not as many as classes, or one names no class, or a class has none.
    """
    table = [UNKNOWN] * 256
    if void is not None:
        table[void] = VOID
    if isinstance(values, Mapping):
        for value, name in values.items():
            table[value] = label_of(name, classes, f"data.values: {value}")
        if unused := [name for label, name in enumerate(classes) if label not in table]:
            raise ValueError(f"data.values has no value for the class {unused[0]}")
        return tuple(table)
    if len(values) != len(classes):
        raise ValueError(
            f"data.values lists {len(values)} values, but there are {len(classes)} classes: "
            f"{', '.join(classes)}"
        )
    for label, value in enumerate(values):
        table[value] = label
    return tuple(table)


def label_of(name: object, classes: Sequence[str], key: str) -> int:
    """Return the label of a class by its name, or of void.

    Raises:
        ValueError: there is no such class; the message begins with ``key``.
    """
    if name in classes:
        return classes.index(str(name))
    if name == NAME_OF_VOID:
        return VOID
    close = difflib.get_close_matches(str(name), classes, n=2)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(classes)}"
    raise ValueError(f"{key}: no class is called {name} ({hint})")


def merged(source: S, merge: Mapping[str, Sequence[str]] | None) -> S:
    """Return a data set in which the classes of each list count as one: see data.merge.

    Raises:
        ValueError: a class is unknown or in two lists, a name is another class's, or fewer than
            two classes are left.
    """
    if not merge:
        return source
    classes, into = source.classes, dict[int, str]()
    for name, members in merge.items():
        key = f"data.merge: {name}"
        if not name.strip() or not name.isprintable() or not members:
            raise ValueError(f"data.merge: {name!r} is no name of a class, or lists none")
        if name in classes and name not in members:
            raise ValueError(f"{key} is a class: list it too, {name}: [{name}, …]")
        for member in members:
            label = label_of(member, classes, key)
            if label >= len(classes) or label in into:
                raise ValueError(f"{key}: {member} is void, or listed twice")
            into[label] = name
    names = [into.get(label, own) for label, own in enumerate(classes)]
    lost = set() if NAME_OF_VOID in classes else {NAME_OF_VOID}
    kept = [name for name in dict.fromkeys(names) if name not in lost]
    if not 2 <= len(kept) <= VOID:
        raise ValueError(f"data.merge leaves {len(kept)} classes, but 2 to {VOID} can be learned")
    labels = [kept.index(name) if name in kept else VOID for name in names]
    if source.table:
        table = [labels[old] if 0 <= old < VOID else old for old in source.table]
    else:
        table = [*labels, *[UNKNOWN] * (256 - len(labels))]
        table[source.void] = VOID
    palette = list(source.palette)
    for label, old in [*((kept.index(n), names.index(n)) for n in kept), (VOID, source.void)]:
        palette[3 * label : 3 * label + 3] = source.palette[3 * old : 3 * old + 3]
    return dataclasses.replace(
        source, classes=tuple(kept), palette=tuple(palette), void=VOID, table=tuple(table)
    )
