"""Which files are photos, which are masks, and what they are called: the layout of a data set.

An option names a folder, which may hold ``{split}`` where the folders of the splits differ, and
what its files are called around the ``{stem}`` that a photo shares with its mask. The id of a photo
is its path below the folder, with the stem in the place of its name, behind its split's name.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from glob import escape, glob
from pathlib import Path, PurePosixPath

SPLIT, STEM = "{split}", "{stem}"
HEIF = (".heic", ".heif")  # photos that Pillow alone cannot read
PHOTOS = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".avif", ".bmp", ".tif", ".tiff", *HEIF)
MASKS = (".png", ".bmp", ".tif", ".tiff", ".gif")  # JPEG would blur the labels


@dataclass(frozen=True)
class Naming:
    """What files are called, such as ``{stem}_mask.png``; without a suffix, any of ``suffixes``."""

    pattern: str
    suffixes: tuple[str, ...]

    @cached_property
    def _parts(self) -> tuple[str, str, tuple[str, ...]]:
        before, _, after = self.pattern.partition(STEM)
        suffix = PurePosixPath(f"{STEM}{after}").suffix
        if suffix.lower() not in self.suffixes:
            return before, after, self.suffixes
        return before, after.removesuffix(suffix), (suffix.lower(),)

    @property
    def rank(self) -> tuple[int, int]:
        """How much of a name is said: a file of two namings belongs to the higher one."""
        before, after, suffixes = self._parts
        return len(before + after), -len(suffixes)

    def same_as(self, other: Naming) -> bool:
        """Tell whether files of one folder may be of both namings, and none the likelier."""
        (*around, suffixes), (*others, rivals) = self._parts, other._parts
        both = {*suffixes} & {*rivals}
        return around == others and bool(both) and (len(suffixes) > 1) == (len(rivals) > 1)

    @property
    def endings(self) -> tuple[str, ...]:
        """The suffixes that files of this naming may have."""
        return self._parts[2]

    def stem(self, file: str) -> str | None:
        """Return the stem of a file of this naming, None of another."""
        before, after, suffixes = self._parts
        name, suffix = os.path.splitext(file)  # noqa: PTH122  # of many files, quicker than a path
        fits = name.startswith(before) and name.endswith(after) and suffix.lower() in suffixes
        return name[len(before) : len(name) - len(after)] or None if fits else None

    def file(self, stem: str, suffix: str) -> str:
        """Return what the file of a stem is called, with ``suffix`` unless the pattern has one."""
        before, after, suffixes = self._parts
        return f"{before}{stem}{after}{suffixes[0] if len(suffixes) == 1 else suffix}"


def below(folder: Path, root: Path) -> str:
    """Return a folder as an option names it: from ``root``, where it is below."""
    return (folder.relative_to(root) if folder.is_relative_to(root) else folder).as_posix()


def split_folders(folder: Path) -> dict[str, Path]:
    """Return the folders that there are, by split; of a name without ``{split}`` one, called ""."""
    pattern = folder.as_posix()
    if SPLIT not in pattern:
        return {"": folder} if folder.is_dir() else {}
    before, _, after = pattern.partition(SPLIT)
    found = sorted(glob(f"{escape(before)}*{escape(after)}"))
    names = {path[len(before) : len(path) - len(after)]: Path(path) for path in found}
    return {name: path for name, path in names.items() if name and path.is_dir()}


@dataclass(frozen=True)
class Place:
    """Where the photos or the masks of a data set lie, and what they are called."""

    key: str  # the option that says where: images or masks
    folder: Path  # perhaps with {split} in it
    naming: Naming

    @property
    def what(self) -> str:
        """What lies there."""
        return {"images": "photo", "masks": "mask"}[self.key]

    @property
    def partner(self) -> str:
        """What belongs to what lies there."""
        return {"images": "mask", "masks": "photo"}[self.key]

    @property
    def base(self) -> Path:
        """The folder that all files are below, whatever their split."""
        above = [path for path in (self.folder, *self.folder.parents) if SPLIT not in str(path)]
        return above[0]

    def file(self, name: str, suffix: str) -> str:
        """Return where the file of an id is to be, below ``base``."""
        split, _, rest = name.partition("/") if SPLIT in str(self.folder) else ("", "", name)
        path = PurePosixPath(rest)
        folder = str(self.folder.relative_to(self.base)).replace(SPLIT, split)
        return str(PurePosixPath(folder, path.parent, self.naming.file(path.name, suffix)))


@dataclass
class Files:
    """What a ``Place`` holds: the files by id, below ``base``, and what was left out, by kind."""

    by_id: dict[str, str] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)


def find_files(place: Place, other: Place) -> Files:
    """Look which files a place holds, in and below its folders; the ``other`` place's are not its.

    A split is a folder that both places have. What else lies beside the files found is counted.

    Raises:
        ValueError: a folder cannot be read, or two files have one id.
    """
    found, theirs = Files(), split_folders(other.folder)
    elsewhere = {path.resolve() for path in theirs.values()}
    for split, folder in split_folders(place.folder).items():
        if split not in theirs:
            continue
        both = folder.resolve() in elsewhere
        for inside, files in folders_in(folder, elsewhere - {folder.resolve()}, place.key):
            above = (split / inside.relative_to(folder)).as_posix().removeprefix(".")
            folders = inside.relative_to(place.base).as_posix().removeprefix(".")
            count, beside = len(found.by_id), Counter[str]()
            for file in files:
                stem = place.naming.stem(file)
                rival = other.naming.stem(file) if both else None
                if rival is not None and (stem is None or other.naming.rank > place.naming.rank):
                    continue
                if stem is None:
                    suffix = PurePosixPath(file).suffix.lower()
                    named = suffix in place.naming.suffixes
                    beside["called otherwise" if named else suffix or "without suffix"] += 1
                    continue
                name, path = (f"{a}/{b}" if a else b for a, b in ((above, stem), (folders, file)))
                if (twin := found.by_id.setdefault(name, path)) != path:
                    twins = f"{PurePosixPath(twin).name} and {file}"
                    where = f"data.{place.key}: {inside}"
                    raise ValueError(f"{where} holds two {place.what}s of one name: {twins}")
            if len(found.by_id) > count or inside == folder:
                found.others += beside
    return found


def folders_in(folder: Path, without: set[Path], key: str) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and those below, each with its files; hidden ones are left out.

    All of it is sorted. Links to folders are followed; those ``without`` are left out.

    Raises:
        ValueError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise ValueError(
            f"data.{key}: cannot read the folder {error.filename}: {error.strerror}"
        ) from None

    seen = set(without)
    for where, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        inside = {name: Path(where, name).resolve() for name in sorted(folders) if name[0] != "."}
        folders[:] = [name for name, real in inside.items() if real not in seen]
        seen.update(inside.values())
        yield Path(where), sorted(name for name in files if name[0] != ".")
