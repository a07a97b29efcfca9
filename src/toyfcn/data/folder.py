"""Your own data: photos, their masks, and the classes' names.

Which files belong together is said by two folders and by what files are called (see layout.py), or
by lists of pairs. Files with other endings, and those whose names begin with a dot, are left out,
the former with a warning.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from torch import Tensor

from toyfcn.config.data import FolderConfig
from toyfcn.data.class_files import class_names
from toyfcn.data.color_masks import read_colors
from toyfcn.data.image_io import read_mask
from toyfcn.data.labels import value_table
from toyfcn.data.layout import MASKS, PHOTOS, Naming, Place, below
from toyfcn.data.layout_search import advice
from toyfcn.data.locations import refuse_missing
from toyfcn.data.pairs import found_pairs, read_pairs, without_flag
from toyfcn.data.palettes import Color, class_palette, triple
from toyfcn.data.scale import Scale
from toyfcn.data.source import VOID, FileSource
from toyfcn.data.splits import DRAWN, draw_splits, id_fault
from toyfcn.text import some

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FolderSource(FileSource):
    """A data set in folders. Its splits are folders or lists, or drawn: see ``draw_splits``.

    ``photos`` and ``labels`` hold the file of each id, below ``images`` and ``masks``; ``where``
    says where both were looked for below ``root``; ``colors`` (if any) is one color a class;
    ``folders`` are the splits that are folders; ``fractions`` are the shares of val and test where
    they are drawn.
    """

    photos: Mapping[str, str] = field(repr=False, compare=False)
    labels: Mapping[str, str] = field(repr=False, compare=False)
    root: Path
    where: tuple[Place, Place]
    colors: tuple[Color, ...] = ()
    void_color: Color | None = None
    has_void: bool = True
    folders: tuple[str, ...] = ()
    fractions: tuple[float, float] | None = None
    split_seed: int = 0

    @property
    def reading(self) -> str:
        """All that decides what a photo's and a mask's files stand for, as text."""
        colors = f"{self.colors} {self.void_color}"
        return f"{super().reading} {colors} {self.has_void} {self.scale} {self.channels}"

    @property
    def layout(self) -> str:
        """Where photos and masks are looked for, and what the splits are, in words."""
        photo, mask = (f"{place.folder.as_posix()}/{place.naming.pattern}" for place in self.where)
        nested = sum("/" in name for name in self.photos) if not self.folders else 0
        below = f" ({nested} photos in folders below)" if nested else ""
        splits = f"lists {self.lists.as_posix()}/*.txt"
        if self.folders:
            splits = f"splits {', '.join(self.folders)}"
        elif self.fractions is not None:
            splits = "splits by fractions"
        return f"photos {photo}, masks {mask}{below}, {splits}"

    def better_layout(self) -> str:
        """Return options that would make more pairs, as the end of a message; "": none would."""
        return advice(self.root, len(self.photos.keys() & self.labels.keys()))

    def splits(self) -> tuple[str, ...]:
        """Return the names of the folders, of the lists, or of the drawn splits not empty."""
        if self.folders:
            return self.folders
        if self.fractions is None:
            return super().splits()
        drawn = draw_splits(self._every_id(), self.fractions, self.split_seed)
        return tuple(name for name in DRAWN if drawn[name])

    def list_path(self, split: str) -> Path:
        """Return where a split's ids come from: its folder or list, or the folder of the photos."""
        if self.folders:
            return Path(str(self.where[0].folder).replace("{split}", split))
        return super().list_path(split) if self.fractions is None else self.images

    def lines(self, split: str) -> tuple[str, ...]:
        """Return what a split names, valid or not; lists may name files as well as ids.

        Raises:
            ValueError: there is no such split, or it is empty.
        """
        if self.folders:
            return self._in_folder(split)
        if self.fractions is None:
            return self._in_list(split)
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
        """Return the ids of a split: in the list's order, or sorted where there is no list.

        Raises:
            ValueError: no such split, or files without their partner.
        """
        if not self.folders and self.fractions is None:
            return super().ids(split)
        names = self.lines(split) if self.folders else tuple(self._every_id())
        alone = (
            ("photo", "mask", self.images, self.photos, self.labels),
            ("mask", "photo", self.masks, self.labels, self.photos),
        )
        wrong = [
            f"{len(left)} {what}{'s' * (len(left) > 1)} without a {partner} "
            f"({some([own[name] for name in left])} in {folder})"
            for what, partner, folder, own, other in alone
            if (left := sorted(name for name in names if name in own and name not in other))
        ]
        if wrong:
            rule = (
                f"looked for {self.layout}; to use some of the photos only, name them in data.lists"
            )
            raise ValueError(f"{' and '.join(wrong)}: {rule}{self.better_layout()}")
        return super().ids(split)

    def image_path(self, name: str) -> Path:
        """Return where the photo of an id lies."""
        return self.images / (self.photos.get(name) or self.where[0].file(name, ".jpg"))

    def mask_path(self, name: str) -> Path:
        """Return where the mask of an id lies."""
        return self.masks / (self.labels.get(name) or self.where[1].file(name, ".png"))

    def identity(self, name: str) -> str:
        """Return what tells a photo from others: one in two splits' folders is the same."""
        if not self.folders:
            return super().identity(name)
        path = self.image_path(name)
        with path.open("rb") as file:  # many photos of one size are called 0001
            start = hashlib.blake2b(file.read(1 << 16), digest_size=8).hexdigest()
        return f"{name.partition('/')[2]}/{path.stat().st_size}/{start}"

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

    def _in_folder(self, split: str) -> tuple[str, ...]:
        if split in self.folders:
            names = sorted({*self._every_id()})
            return tuple(name for name in names if name.startswith(f"{split}/"))
        hint = "name them in data.train_split, data.val_split and data.test_split"
        if split == "test":
            hint = "data.test_split=null trains without it"
        if close := [name for name in self.folders if name.startswith(split)]:
            hint = f"set data.{split}_split={close[0]}"
        photos, masks = (place.folder.as_posix() for place in self.where)
        there = ", ".join(self.folders) or "no split"
        raise ValueError(
            f"no split is called {split!r}: {photos} and {masks} both exist for {there}; {hint}"
        )

    def _in_list(self, split: str) -> tuple[str, ...]:
        """Return the ids that a list's lines mean: ids, files, pairs, and lines with VOC's flag."""
        known: dict[str, str] = {}
        for name, file in self.photos.items():
            known |= {file: name, str(PurePosixPath(file).with_suffix("")): name}
        known |= {name: name for name in self.photos}
        above = f"{below(self.where[0].folder, self.root)}/"
        found, left_out = [], 0
        for line in super().lines(split):
            named = without_flag(line) if line not in known else line
            left_out += named is None
            if named is not None:
                plain = named.replace("\\", "/").removeprefix("./")
                found.append(known.get(plain) or known.get(plain.removeprefix(above)) or named)
        if left_out:
            log.info("%s: left out %d lines with the flag -1", self.list_path(split), left_out)
        return tuple(found)

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
    classes = class_names(config, root)
    colors = tuple(triple(color) for color in config.colours or ())
    for key, given in (("colours", config.colours), ("palette", config.palette)):
        if given is not None and len(given) != len(classes):
            told = " (set the void color in data.void_colour)" if key == "colours" else ""
            raise ValueError(
                f"data.{key} has {len(given)} colors, but there are {len(classes)} classes{told}"
            )
    void_color = triple(config.void_colour) if config.void_colour is not None else None
    by_value = config.values is not None
    void = VOID if colors or by_value or config.void is None else config.void
    drawn = config.lists is None and not config.split_folders
    places = (
        Place("images", root / str(config.images), Naming(config.image_name, PHOTOS)),
        Place("masks", root / str(config.masks), Naming(config.mask_name, MASKS)),
    )
    lists = root / config.lists if config.lists is not None else places[0].base
    pairs = read_pairs(root, lists, places) if config.lists is not None else None
    pairs = pairs or found_pairs(root, places, drawn)
    source = FolderSource(
        name=config.name,
        images=places[0].base,
        masks=places[1].base,
        lists=lists,
        classes=classes,
        palette=class_palette(config.colours or config.palette or (), void_color, void),
        void=void,
        table=value_table(config.values, classes, config.void) if by_value else (),
        photos=pairs.photos,
        labels=pairs.labels,
        root=root,
        where=places,
        colors=colors,
        void_color=void_color,
        has_void=void_color is not None if colors else by_value or config.void is not None,
        folders=pairs.splits if config.split_folders else (),
        fractions=(config.val_fraction, config.test_fraction) if drawn else None,
        split_seed=config.split_seed,
        scale=Scale(config.black, config.white),
        channels=config.channels,
    )
    warn_of_values(source)
    return source


def warn_of_values(source: FolderSource) -> None:
    """Warn if the values in three masks fit the classes, but not as labels: 255, or 1 to N."""
    if source.colors or source.table or source.void != VOID or not source.has_void:
        return
    found: set[int] = set()
    for name in list(source.labels)[:3]:
        try:
            found.update(np.unique(source.read_labels(name).numpy()).tolist())
        except ValueError:
            return  # training or check reads it again and reports it
    count = len(source.classes)
    if found == {0, VOID} and count == 2:
        log.warning(
            "the masks in %s seem to hold the values 0 and 255 only, and 255 is void: if it stands "
            "for %s, set data.values=[0,255]",
            source.masks,
            source.classes[1],
        )
    elif len(found - {VOID}) == count and not found - {VOID} <= set(range(count)):
        log.warning(
            "the masks in %s hold %d values, as many as there are classes: if they stand for these "
            "in their order, set data.values=%s",
            source.masks,
            count,
            str(sorted(found - {VOID})).replace(" ", ""),
        )
