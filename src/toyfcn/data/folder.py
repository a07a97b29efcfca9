"""Your own data: a folder of photos, one of masks with the same names, and the classes' names.

Both folders are flat. A photo ``a.jpg`` (or another suffix of ``PHOTOS``) belongs to the mask
``a.png`` (or one of ``MASKS``); ``a`` is its id. Files with other endings, and those whose names
begin with a dot, are left out, the former with a warning.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from toyfcn.config.data import FolderConfig
from toyfcn.data.class_files import read_class_file
from toyfcn.data.color_masks import read_colors
from toyfcn.data.image_io import WHITE, read_image, read_mask
from toyfcn.data.locations import refuse_missing
from toyfcn.data.palettes import Color, class_palette
from toyfcn.data.source import VOID, FileSource
from toyfcn.data.splits import DRAWN, draw_splits, id_fault

PHOTOS = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".avif", ".bmp", ".tif", ".tiff")
MASKS = (".png", ".bmp", ".tif", ".tiff", ".gif")  # JPEG would blur the labels
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FolderSource(FileSource):
    """A data set in two folders. Without lists, the splits are drawn: see ``draw_splits``.

    ``photos`` and ``labels`` hold the suffix of each id's file; ``colors`` (if any) is one color
    a class; ``fractions`` are the shares of val and test where there are no lists.
    """

    photos: Mapping[str, str] = field(repr=False, compare=False)
    labels: Mapping[str, str] = field(repr=False, compare=False)
    colors: tuple[Color, ...] = ()
    void_color: Color | None = None
    has_void: bool = True
    fractions: tuple[float, float] | None = None
    split_seed: int = 0
    white: int = WHITE  # of photos of 16 bits

    @property
    def reading(self) -> str:
        """All that decides what a photo's and a mask's files stand for, as text."""
        return f"{super().reading} {self.colors} {self.void_color} {self.has_void} {self.white}"

    def splits(self) -> tuple[str, ...]:
        """Return the names of the lists, or of the drawn splits that are not empty."""
        if self.fractions is None:
            return super().splits()
        drawn = draw_splits(self._every_id(), self.fractions, self.split_seed)
        return tuple(name for name in DRAWN if drawn[name])

    def list_path(self, split: str) -> Path:
        """Return where a split's ids come from: its list, or the folder of the photos."""
        return super().list_path(split) if self.fractions is None else self.images

    def lines(self, split: str) -> tuple[str, ...]:
        """Return what a split names, valid or not; lists may name files as well as ids.

        Raises:
            ValueError: there is no such split, or it is empty.
        """
        if self.fractions is None:
            return tuple(self._id(line) for line in super().lines(split))
        if split not in DRAWN:
            raise ValueError(
                f"no split is called {split!r}: without data.lists there are {', '.join(DRAWN)}"
            )
        ids = draw_splits(self._every_id(), self.fractions, self.split_seed)[split]
        if not ids:
            few = f"the {len(self.photos)} photos in {self.images} are too few for it"
            none = "data.test_fraction=0 sets no photo aside"
            without = split == "test" and not self.fractions[1]
            raise ValueError(f"the split {split!r} is empty: {none if without else few}")
        return ids

    def id_fault(self, name: str, seen: Container[str] = ()) -> str | None:
        """Say what is wrong with an id; any photo's name is one."""
        known = name in self.photos and name.isprintable() and name not in seen
        return None if known else id_fault(name, seen)

    def ids(self, split: str) -> tuple[str, ...]:
        """Return the ids of a split: in the list's order, or sorted where it is drawn.

        Raises:
            ValueError: no such split, or files without their partner.
        """
        if self.fractions is None:
            return super().ids(split)
        alone = (
            ("photo", "mask", self.images, self.photos, self.labels),
            ("mask", "photo", self.masks, self.labels, self.photos),
        )
        wrong = [
            f"{len(left)} {what}{'s' * (len(left) > 1)} without a {partner} "
            f"({some([name + own[name] for name in left])} in {folder})"
            for what, partner, folder, own, other in alone
            if (left := sorted(set(own) - set(other)))
        ]
        if wrong:
            advice = shared_ending(self.photos, self.labels) or (
                "a mask is called like its photo up to the suffix; to use some of the photos only, "
                "name them in data.lists"
            )
            raise ValueError(f"{' and '.join(wrong)}: {advice}")
        return super().ids(split)

    def image_path(self, name: str) -> Path:
        """Return where the photo of an id lies."""
        return self.images / f"{name}{self.photos.get(name, '.jpg')}"

    def mask_path(self, name: str) -> Path:
        """Return where the mask of an id lies."""
        return self.masks / f"{name}{self.labels.get(name, '.png')}"

    def image(self, name: str) -> Tensor:
        """Read the photo of an id: uint8 (3, H, W), RGB."""
        return read_image(self.image_path(name), self.white)

    def read_labels(self, name: str) -> Tensor:
        """Read the mask of an id, by its values or by its colors: uint8 (H, W)."""
        if self.colors:
            return read_colors(self.mask_path(name), self.colors, self.void_color, self.void)
        mask = read_mask(self.mask_path(name))  # of a palette of its owner's
        if not self.has_void and bool((mask == self.void).any()):
            raise ValueError(
                f"{self.mask_path(name)} holds the value {self.void}, but data.void=null says that "
                f"every pixel has one of the {len(self.classes)} classes"
            )
        return mask

    def _id(self, line: str) -> str:
        stem, dot, suffix = line.rpartition(".")
        named = line not in self.photos and self.photos.get(stem) == dot + suffix
        return stem if named else line

    def _every_id(self) -> Iterator[str]:
        """Yield all ids that have a photo or a mask."""
        yield from self.photos
        yield from (name for name in self.labels if name not in self.photos)


def folder_source(config: FolderConfig) -> FolderSource:
    """Look which photos and masks the folders of a config hold; open none.

    Raises:
        ValueError: an option is missing or does not fit, a folder is not there or holds nothing.
    """
    root = Path(config.root)
    refuse_missing(config)
    images, masks = (root / Path(str(p)) for p in (config.images, config.masks))
    classes = class_names(config, root)
    colors = tuple(triple(color) for color in config.colours or ())
    for key, given in (("colours", config.colours), ("palette", config.palette)):
        if given is not None and len(given) != len(classes):
            advice = " (set the void color in data.void_colour)" if key == "colours" else ""
            raise ValueError(
                f"data.{key} has {len(given)} colors, but there are {len(classes)} classes{advice}"
            )
    void_color = triple(config.void_colour) if config.void_colour is not None else None
    void = VOID if colors or config.void is None else config.void
    lists = root / config.lists if config.lists is not None else images
    source = FolderSource(
        name=config.name,
        images=images,
        masks=masks,
        lists=lists,
        classes=classes,
        palette=class_palette(config.colours or config.palette or (), void_color, void),
        void=void,
        photos=suffixes(images, "images", PHOTOS),
        labels=suffixes(masks, "masks", MASKS),
        colors=colors,
        void_color=void_color,
        has_void=void_color is not None if colors else config.void is not None,
        fractions=None if config.lists is not None else (config.val_fraction, config.test_fraction),
        split_seed=config.split_seed,
        white=config.white,
    )
    warn_of_black_and_white(source)
    return source


def warn_of_black_and_white(source: FolderSource) -> None:
    """Warn if three masks of a data set of two classes hold white only, which is void."""
    if source.colors or len(source.classes) != 2 or source.void != VOID or not source.has_void:
        return
    found: set[int] = set()
    for name in list(source.labels)[:3]:
        try:
            found.update(np.unique(source.read_labels(name).numpy()).tolist())
        except ValueError:
            return  # training or check reads it again and reports it
    if found == {0, VOID}:
        log.warning(
            "the masks in %s seem to hold the values 0 and 255 only, and 255 is void: if it stands "
            "for %s, set data.colours=[[0,0,0],[255,255,255]]",
            source.masks,
            source.classes[1],
        )


def suffixes(folder: Path, key: str, endings: Sequence[str]) -> dict[str, str]:
    """Return the suffix of each picture in a flat folder by its name without it.

    Raises:
        ValueError: the folder is not there, holds no picture, or two of one name.
    """
    what = {"images": "photo", "masks": "mask"}[key]
    try:
        names = sorted(path.name for path in folder.iterdir() if not path.is_dir())
    except OSError as error:
        raise ValueError(f"data.{key}: cannot read the folder {folder}: {error.strerror}") from None
    found: dict[str, str] = {}
    others = Counter[str]()
    shared = {ending: ending for ending in endings}  # one string for all files
    for name in names:
        stem, suffix = Path(name).stem, Path(name).suffix
        if name.startswith("."):
            continue
        if suffix.lower() not in endings:
            others[suffix.lower() or "without suffix"] += 1
            continue
        if stem in found:
            both = f"{stem}{found[stem]} and {name}"
            raise ValueError(f"data.{key}: {folder} holds two {what}s of one name: {both}")
        found[stem] = shared.setdefault(suffix, suffix)
    if not found:
        raise ValueError(
            f"data.{key}: {folder} holds no {what} (looked for {', '.join(endings)}, not in "
            "folders below it)"
        )
    if others:
        left_out = ", ".join(f"{count} {ending}" for ending, count in sorted(others.items()))
        log.warning("left out of %s: %s (a %s is %s)", folder, left_out, what, ", ".join(endings))
    return found


def shared_ending(photos: Container[str], labels: Mapping[str, str]) -> str | None:
    """Say what to do where all masks are called like their photos and an ending, as in a_mask."""
    first = next(iter(labels))
    for cut in range(len(first) - 1, 0, -1):
        ending = first[cut:]
        if all(name.removesuffix(ending) in photos and name not in photos for name in labels):
            name = first[:cut]
            return (
                f"all masks end in {ascii(ending)[1:-1]}: rename them, {first}{labels[first]} to "
                f"{name}{labels[first]}"
            )
    return None


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


def triple(color: Sequence[int]) -> Color:
    """Return a color as a tuple of three."""
    r, g, b = color
    return r, g, b


def some(names: Sequence[str], most: int = 3) -> str:
    """Return the first of some names, for messages."""
    return ", ".join(ascii(name)[1:-1] for name in names[:most]) + ", …" * (len(names) > most)
