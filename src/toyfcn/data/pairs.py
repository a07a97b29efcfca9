"""Which photo belongs to which mask: found in two places, or named by the lines of lists."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from toyfcn.data.image_io import register_heif
from toyfcn.data.layout import HEIF, SPLIT, STEM, Place, below, find_files
from toyfcn.data.layout_search import advice
from toyfcn.data.splits import read_lines

log = logging.getLogger(__name__)
FLAGS = ("1", "0", "-1")  # VOC's lists of a class: shows it, hardly, not


@dataclass
class Pairs:
    """The files of photos and masks by id, and the splits that are folders."""

    photos: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    splits: tuple[str, ...] = ()


def found_pairs(root: Path, places: tuple[Place, Place], drawn: bool) -> Pairs:
    """Look which photos and masks lie in two places.

    Where the splits are ``drawn``, folders below that hold photos or masks alone are left out.

    Raises:
        ValueError: a place holds nothing; the message says what would fit.
    """
    same = places[0].folder.resolve() == places[1].folder.resolve()
    if same and places[0].naming.same_as(places[1].naming):
        told = "data.mask_name={stem}_mask or the like tells them apart"
        raise ValueError(
            f"data.images and data.masks are both {places[0].folder}: {told}{advice(root)}"
        )
    photos, masks = found = [find_files(*both) for both in (places, places[::-1])]
    if any(file.lower().endswith(HEIF) for file in photos.by_id.values()):
        register_heif()
    shared = photos.by_id.keys() & masks.by_id
    for place, files in zip(places, found, strict=True):
        endings = ", ".join(place.naming.endings)
        if not files.by_id:
            pattern = place.naming.pattern
            called = f" called {pattern}" if pattern != STEM else ""
            raise ValueError(
                f"data.{place.key}: {place.folder} holds no {place.what}{called} (looked for "
                f"{endings}){advice(root)}"
            )
        if drawn and shared:
            both = {str(PurePosixPath(name).parent) for name in shared} | {"."}
            apart = [n for n in files.by_id if str(PurePosixPath(n).parent) not in both]
            for name in apart:
                files.others[f"{place.what}s in folders without {place.partner}s"] += 1
                del files.by_id[name]
        if files.others:
            left_out = ", ".join(f"{count} {kind}" for kind, count in sorted(files.others.items()))
            log.warning(
                "left out of %s: %s (a %s is %s)", place.folder, left_out, place.what, endings
            )
    splits = {name.partition("/")[0] for name in photos.by_id}
    splits &= {name.partition("/")[0] for name in masks.by_id}
    if drawn and {"train", "val"} <= splits:
        log.warning(
            "data.images and data.masks hold folders train and val, but the splits are drawn: "
            "data.images=%s/{split} data.masks=%s/{split} would use these",
            *(below(place.folder, root) for place in places),
        )
    elif not drawn and SPLIT in str(places[0].folder):
        for files in found:
            files.by_id = {n: f for n, f in files.by_id.items() if n.partition("/")[0] in splits}
    return Pairs(photos.by_id, masks.by_id, tuple(sorted(splits)))


def words_of(line: str) -> list[str]:
    """Return the two words of a line, which a tab, a comma or spaces part; else the line."""
    for sign in ("\t", ",", None):
        words = [word.strip() for word in line.split(sign)]
        if len(words) == 2:
            return words
    return [line]


def without_flag(line: str) -> str | None:
    """Return the photo that a line names: the first of a pair; None where VOC's flag is -1."""
    first, *others = words_of(line)
    if others == ["-1"]:
        return None
    return first if others and (others[0] in FLAGS or PurePosixPath(first).suffix) else line


def read_pairs(root: Path, lists: Path, places: tuple[Place, Place]) -> Pairs | None:
    """Return the pairs that the lists of a folder name, if any does; no folder is looked at.

    Photos and masks are named from their own folders or from ``root``.

    Raises:
        ValueError: a photo has two masks.
    """
    found = Pairs()
    for path in sorted(lists.glob("*.txt")):
        try:
            lines = read_lines(path)
        except ValueError:
            continue  # told when the list is used
        for line in lines:
            words = words_of(line)
            suffixes = [PurePosixPath(word).suffix.lower() for word in words]
            wanted = [place.naming.suffixes for place in places]
            if len(words) != 2 or suffixes[0] not in wanted[0] or suffixes[1] not in wanted[1]:
                continue
            photo, mask = map(file_of, words, places, (root, root))
            name = str(PurePosixPath(photo).with_suffix(""))
            if (other := found.labels.setdefault(name, mask)) != mask:
                raise ValueError(f"{path} gives {photo} the mask {mask}, another line {other}")
            if (twin := found.photos.setdefault(name, photo)) != photo:
                raise ValueError(f"{path} names two photos of one name: {twin} and {photo}")
    return found if found.photos else None


def file_of(word: str, place: Place, root: Path) -> str:
    """Return where a file that a list names lies, below the folder of its place."""
    named = word.replace("\\", "/").removeprefix("./")
    path = root / named
    inside = path.is_relative_to(place.folder) and not (place.folder / named).exists()
    return path.relative_to(place.folder).as_posix() if inside else named
