"""Which ids make a split: read from its list, or drawn where there is none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path

DRAWN = ("train", "val", "test", "all")  # the splits where there are no lists


def read_list(path: Path) -> tuple[str, ...]:
    """Return the ids in a split list, one a line; blank lines and CRLF are harmless.

    Raises:
        ValueError: the list is missing, not text, empty, or names an id twice or what is not an id.
    """
    return sound_ids(path, read_lines(path), id_fault)


def sound_ids(
    path: Path, ids: Iterable[str], id_fault: Callable[[str, Container[str]], str | None]
) -> tuple[str, ...]:
    """Return the ids that ``path`` names if nothing is wrong with any.

    Raises:
        ValueError: what ``id_fault`` says about the first bad one.
    """
    seen: dict[str, None] = {}
    for name in ids:
        if fault := id_fault(name, seen):
            raise ValueError(f"{path} {fault}")
        seen[name] = None
    return tuple(seen)


def read_lines(path: Path) -> tuple[str, ...]:
    """Return the lines of a split list that are not blank, whether or not they are ids.

    Raises:
        ValueError: the list is missing, not text or empty.
    """
    if why := no_file(path, "does not exist"):
        known = sorted(other.stem for other in path.parent.glob("*.txt"))
        raise ValueError(
            f"no list for the split {path.stem!r}: {path} {why} (the lists there: "
            f"{', '.join(known) or 'none'})"
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise ValueError(f"cannot read the split list {path}: {error}") from None
    ids = tuple(line.strip() for line in lines if line.strip())
    if not ids:
        raise ValueError(f"the split list {path} names no image")
    return ids


def no_file(path: Path, gone: str = "is missing") -> str | None:
    """Say why there is no file at a path, if so."""
    try:
        return None if path.is_file() else gone
    except OSError as error:  # no right to look, a name too long
        return f"cannot be looked at: {error.strerror or error}"


def id_fault(name: str, seen: Container[str] = ()) -> str | None:
    """Say what is wrong with an id that a list names after the ``seen`` ones, if anything."""
    if name in seen:
        return f"names {name!r} twice"
    if not name.isprintable() or {"/", "\\", " "} & set(name) or name in (".", ".."):
        return f"holds {name!r}, which is not an image id"
    return None


def draw_splits(
    ids: Iterator[str], fractions: tuple[float, float], seed: int
) -> dict[str, tuple[str, ...]]:
    """Deal ids out to val, test and train; all of it sorted.

    Where an id goes follows from a hash of (seed, id) and the fractions alone, so new photos never
    move old ones, and sizes come out about as wanted. Only where that would leave a wanted split
    empty, the id nearest to it is moved.
    """
    ranked = sorted((uniform(name, seed), name) for name in ids)
    val, test = fractions
    ends = [sum(u < val for u, _ in ranked), sum(u < val + test for u, _ in ranked)]
    least = 1 if test and len(ranked) > 2 else 0
    ends[0] = min(max(ends[0], 1), max(len(ranked) - 1 - least, 0))
    ends[1] = min(max(ends[1], ends[0] + least), max(len(ranked) - 1, 0)) if test else ends[0]
    names = [name for _, name in ranked]
    parts = {"train": names[ends[1] :], "val": names[: ends[0]], "test": names[ends[0] : ends[1]]}
    return {split: tuple(sorted(part)) for split, part in (parts | {"all": names}).items()}


def fold_of(ids: Sequence[str], folds: int, fold: int) -> tuple[str, ...]:
    """Return the ids of one of several parts of equal size (but for one id), by a hash of the ids.

    Raises:
        ValueError: there are fewer ids than folds.
    """
    if len(ids) < folds:
        raise ValueError(f"data.folds={folds} needs as many images, and there are {len(ids)}")
    return tuple(sorted(ids, key=lambda name: (uniform(name, 0), name))[fold::folds])


def share_of(ids: Sequence[str], share: float) -> tuple[str, ...]:
    """Return a share of the ids, at least one, in their order.

    Which follows from a hash of each id, so that a smaller share is part of a larger one.
    """
    count = max(1, round(share * len(ids)))
    kept = set(sorted(ids, key=lambda name: uniform(name, 1))[:count])
    return tuple(name for name in ids if name in kept)


def uniform(name: str, seed: int) -> float:
    """Map (seed, id) to [0, 1), the same on every machine."""
    text = f"{seed}/{name}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") / 2**64
