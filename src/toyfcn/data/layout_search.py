"""Which options would fit the photos and masks that lie in a folder: looked for after a mistake.

Every two folders, each with what is below it, are compared: do their files share stems, and with
which beginnings or endings around them?
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from toyfcn.data.layout import MASKS, PHOTOS, SPLIT, STEM, Naming
from toyfcn.text import printable

MOST_FILES, MOST_FOLDERS, MOST_GROUPS, DEEPEST = 40_000, 5_000, 12, 5  # looked at
SAMPLE = 40  # photos of a folder, by which most namings are found wrong
SPLIT_NAMES = re.compile(r"(.*?)(training|train|validation|valid|val|testing|test)(.*)")
MASK_WORDS = re.compile(r"mask|label|annot|ann_|gt|seg|class", re.I)
OTHER_WORDS = re.compile(r"colou?r|instance|object|overlay|vis|edge|bound", re.I)  # beside labels
BREAK = re.compile(r"[_\-. ]")

Inside = tuple[str, str]  # split ("" where there is none), folder below


@dataclass(frozen=True)
class Fit:
    """Options that make pairs of what lies in a folder."""

    images: str
    masks: str
    image_name: str
    mask_name: str
    pairs: int
    photos: int
    example: tuple[str, str]  # photo and mask, below that folder
    splits: tuple[str, ...] = ()

    @cached_property
    def given(self) -> dict[str, str]:
        """The options to type, without those that have their default."""
        found = {"images": self.images, "masks": self.masks}
        found |= {"image_name": self.image_name} if self.image_name != STEM else {}
        found |= {"mask_name": self.mask_name} if self.mask_name != STEM else {}
        for wanted in ("train", "val", "test") if self.splits else ():
            name = next((name for name in self.splits if name.startswith(wanted)), "null")
            found |= {f"{wanted}_split": name} if name != wanted else {}
        return found

    def __str__(self) -> str:
        words = [f"data.{key}={value}" for key, value in self.given.items()]
        return " ".join(f"'{word}'" if set(word) & set("{ '") else word for word in words)


class Group(NamedTuple):
    """A folder with what is below it, as an option would name it: files by where they lie."""

    name: str
    files: dict[Inside, list[str]]

    def path(self, inside: Inside, file: str) -> str:
        """Return where a file lies."""
        return "/".join((self.name.replace(SPLIT, inside[0]), inside[1], file))


def best_fit(root: Path) -> Fit | None:
    """Return the options that pair most of the photos in and below a folder, if any do."""
    groups = grouped(root)
    fits = [fit for photos in groups for masks in groups for fit in fits_of(photos, masks)]
    return max(fits, key=lambda fit: merit(fit, root), default=None)


def grouped(root: Path) -> list[Group]:
    """Return the folders that hold pictures, those with most of them first."""
    found: defaultdict[str, dict[Inside, list[str]]] = defaultdict(dict)
    count = 0
    for number, (where, folders, files) in enumerate(os.walk(root, followlinks=True)):
        parts = Path(where).relative_to(root).parts
        hidden = {name for name in folders if name[0] == "." or name == "outputs"}
        folders[:] = sorted({*folders} - hidden) if len(parts) < DEEPEST else []
        names = [n for n in sorted(files) if n[0] != "." and of(n, (*PHOTOS, *MASKS))]
        count += len(names)
        if count > MOST_FILES or number > MOST_FOLDERS:
            break
        for name, inside in names_of(parts) if names else ():
            found[name][inside] = names
    groups = [Group(name, files) for name, files in found.items() if usable(name, files)]
    groups.sort(key=lambda group: (-sum(map(len, group.files.values())), group.name))
    return groups[:MOST_GROUPS]


def names_of(parts: tuple[str, ...]) -> Iterator[tuple[str, Inside]]:
    """Yield how options may name a folder: by one above it, with its split or as it is."""
    for length in range(len(parts) + 1):
        below = "/".join(parts[length:])
        yield "/".join(parts[:length]) or ".", ("", below)
        for i, part in enumerate(parts[:length]):
            if match := SPLIT_NAMES.fullmatch(part):
                folder = [*parts[:i], f"{match[1]}{SPLIT}{match[3]}", *parts[i + 1 : length]]
                yield "/".join(folder), (match[2], below)


def of(file: str, suffixes: tuple[str, ...]) -> bool:
    """Tell whether a file has one of some suffixes."""
    return file.lower().endswith(suffixes)


def usable(name: str, files: Iterable[Inside]) -> bool:
    """Tell whether folders named by ``{split}`` are at least those of train and val."""
    splits = {split for split, _ in files}
    begin = all(any(split.startswith(w) for split in splits) for w in ("train", "val"))
    return begin or SPLIT not in name


def fits_of(photos: Group, masks: Group) -> Iterator[Fit]:
    """Yield the fits of two groups: how the files may be called, and how many pairs they make."""
    if (SPLIT in photos.name) != (SPLIT in masks.name) or not photos.files.keys() & masks.files:
        return
    masks = Group(masks.name, {k: [f for f in v if of(f, MASKS)] for k, v in masks.files.items()})
    same = photos.name == masks.name
    shared = min(photos.files.keys() & masks.files)  # a folder to begin with
    tried = dict.fromkeys(
        pair
        for photo in photos.files[shared][:2]
        for mask in closest(photo, masks.files[shared])
        for pair in namings(photo, mask, same)
    )
    for image_name, mask_name in tried:
        of_photo, of_mask = Naming(image_name, PHOTOS), Naming(mask_name, MASKS)
        if same and of_photo.same_as(of_mask):
            continue
        there = {of_mask.stem(file) for file in masks.files[shared]}
        sample = photos.files[shared][:SAMPLE]
        some = [stem for file in sample if (stem := of_photo.stem(file))]
        if 2 * len(there.intersection(some)) < len(some) or 4 * len(some) < len(sample):
            continue
        pairs, count, splits, example = 0, 0, set[str](), ("", "")
        for inside, files in photos.files.items():
            labels = {of_mask.stem(file): file for file in masks.files.get(inside, ())}
            own = [file for file in files if not (same and owned(file, of_mask, of_photo))]
            stems = {stem: file for file in own if (stem := of_photo.stem(file))}
            both = stems.keys() & labels
            pairs, count = pairs + len(both), count + len(stems)
            if both:
                splits.add(inside[0])
                first = min(both)
                example = photos.path(inside, stems[first]), masks.path(inside, labels[first])
        every = sum(map(len, photos.files.values()))
        if (
            2 * pairs > count
            and 4 * pairs > every
            and usable(photos.name, ((split, "") for split in splits))
        ):
            found = tuple(sorted(splits - {""}))
            yield Fit(photos.name, masks.name, image_name, mask_name, pairs, count, example, found)


def owned(file: str, naming: Naming, rival: Naming) -> bool:
    """Tell whether a file of a shared folder belongs to the first of two namings."""
    return naming.stem(file) is not None and (rival.stem(file) is None or naming.rank > rival.rank)


def closest(photo: str, masks: list[str], most: int = 5) -> list[str]:
    """Return the masks whose names begin or end most like a photo's."""
    stem = Path(photo).stem

    def alike(mask: str) -> int:
        pairs = (stem, Path(mask).stem), (stem[::-1], Path(mask).stem[::-1])
        return max(len(shared_start(*pair)) for pair in pairs)

    return sorted(masks, key=lambda mask: (-alike(mask), mask))[:most]


def shared_start(a: str, b: str) -> str:
    """Return the longest beginning that two texts share."""
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    return a[: min(len(a), len(b)) if same is None else same]


def namings(photo: str, mask: str, same: bool) -> Iterator[tuple[str, str]]:
    """Yield how two files may be called around a stem that both have."""
    names, ends = (Path(photo).stem, Path(mask).stem), (Path(photo).suffix, Path(mask).suffix)
    if same and photo == mask:
        return
    if names[0] == names[1]:
        yield (f"{STEM}{ends[0]}", f"{STEM}{ends[1]}") if same else (STEM, STEM)
        return
    for turn in (1, -1):  # what is shared stands at the beginning, or at the end
        a, b = (name[::turn] for name in names)
        stem = shared_start(a, b)
        if stem not in (a, b) and (breaks := [m.start() for m in BREAK.finditer(stem)]):
            stem = stem[: breaks[-1]]
        if stem:
            around = [name[len(stem) :][::turn] for name in (a, b)]
            found = [f"{STEM}{text}" if turn == 1 else f"{text}{STEM}" for text in around]
            yield found[0], found[1] + ends[1]


def merit(fit: Fit, root: Path) -> tuple[object, ...]:
    """Return what makes one fit better than another, the weightiest first."""
    called = " ".join(fit.given.values())
    return (
        fit.pairs == fit.photos,
        likeness(fit, root),
        not OTHER_WORDS.search(called),
        fit.pairs,
        SPLIT in fit.images,
        -len(fit.given),
        len(called),
        called,
    )


def likeness(fit: Fit, root: Path) -> int:
    """Return how much more the masks of a fit look like masks than its photos do, from 0 to 2."""
    words = f"{fit.images}/{fit.image_name}", f"{fit.masks}/{fit.mask_name}"
    named = [bool(MASK_WORDS.search(text)) for text in words]
    if named == [False, True]:
        return 2
    modes = []
    for file in fit.example:
        with contextlib.suppress(OSError, ValueError), Image.open(root / file) as image:
            modes.append(image.mode in ("P", "L", "1"))
    return int(modes == [False, True])


def advice(root: Path, pairs: int = 0) -> str:
    """Return what to type for more pairs than there are now, to be appended to a message."""
    fit = best_fit(root)
    if fit is None or fit.pairs <= pairs:
        return ""
    return f"; this would fit ({fit.pairs} of {fit.photos} photos with a mask): {printable(fit)}"
