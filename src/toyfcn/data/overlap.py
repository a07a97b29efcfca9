"""Photos that are trained on must not be scored, whatever name a year gives them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from toyfcn.data.source import Source


def identities(source: Source, ids: Iterable[str]) -> list[int]:
    """Return a 64-bit number for each photo, the same in every data set that has it."""
    texts = [source.identity(name).encode("utf-8", "surrogateescape") for name in ids]
    digests = [hashlib.blake2b(text, digest_size=8).digest() for text in texts]
    return [int.from_bytes(digest, "little") for digest in digests]


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
