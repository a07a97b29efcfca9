"""Photos that are trained on must not be scored, whatever name a year gives them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

from toyfcn.data.source import Source

FIRST_YEAR = re.compile(r"2007_(\d{6})")


def canonical(name: str) -> str:
    """Return the one name of a PASCAL photo: later years call VOC2007's ``000032`` 2007_000032."""
    match = FIRST_YEAR.fullmatch(name)
    return match[1] if match else name


def identities(source: Source, ids: Iterable[str]) -> list[int]:
    """Return a 64-bit number for each photo, the same in every data set.

    PASCAL's photos are identified by their canonical name. Elsewhere many photos are called 0001,
    so the file's size in bytes belongs to the name.
    """
    found = []
    for name in ids:
        size = source.image_path(name).stat().st_size if not source.pascal else ""
        text = f"{canonical(name) if source.pascal else name}/{size}"
        digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        found.append(int.from_bytes(digest, "little"))
    return found


def shared(source: Source, ids: Sequence[str], trained: Iterable[int]) -> list[str]:
    """Return those of the ids whose photos are among the ``trained`` identities."""
    known = set(trained)
    return [n for n, who in zip(ids, identities(source, ids), strict=True) if who in known]


def refuse_overlap(
    source: Source, train: tuple[str, Sequence[str]], scored: tuple[str, Sequence[str]]
) -> None:
    """Check that no photo is in both of two splits, each given as (option=name, ids).

    Raises:
        ValueError: with counts and the first names.
    """
    twice = shared(source, scored[1], identities(source, train[1]))
    if twice:
        first = ", ".join(twice[:3]) + ", …" * (len(twice) > 3)
        raise ValueError(
            f"{len(twice)} of the {len(scored[1])} photos of {scored[0]} are trained on by "
            f"{train[0]} ({len(train[1])} photos): {first}; such a score says nothing, so choose "
            "other lists, or set data.allow_overlap=true if that is intended"
        )
