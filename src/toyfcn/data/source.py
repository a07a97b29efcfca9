"""One data set: which images its splits name, what its labels mean; pixels when asked.

Nothing here opens an image or a mask before it is consumed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from toyfcn.data.image_io import (
    image_size,
    read_image,
    read_mask_and_palette,
)
from toyfcn.data.palettes import ADVICE, color_list, palette, unexpected, used_colors
from toyfcn.data.scale import AS_STORED, Scale
from toyfcn.data.splits import id_fault, no_file, read_lines, sound_ids

VOID = 255  # label of pixels that are neither learned nor scored
UNKNOWN = -1  # in a source's table: a value that stands for nothing


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """A data set: which images its splits name, what its labels mean, and how they are read.

    It is sent to loader workers, so it holds names only. ``palette`` are the colors of the labels
    in pictures, red, green and blue of each of 256; ``void`` is the ignore index. ``table`` is the
    label of each of 256 values that masks hold (see labels.py); empty: they are the labels. Photos
    have so many ``channels``, RGB if three.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[int, ...] = tuple(palette())
    void: int = VOID
    table: tuple[int, ...] = ()
    channels: int = 3

    @abstractmethod
    def ids(self, split: str) -> tuple[str, ...]:
        """Return the ids of a split in its order.

        Raises:
            ValueError: no such split, or one that cannot be used.
        """

    @abstractmethod
    def image(self, name: str) -> Tensor:
        """Read the photo of an id: uint8 (channels, H, W)."""

    @abstractmethod
    def read_labels(self, name: str) -> Tensor:
        """Read the mask of an id, values not yet checked: uint8 (H, W)."""

    def places(self, name: str) -> tuple[str, str]:
        """Return what messages call the photo and the mask of an id."""
        return f"photo {name!r} of {self.name}", f"mask {name!r} of {self.name}"

    def size(self, name: str) -> tuple[int, int]:
        """Return (height, width) of the photo of an id."""
        height, width = self.image(name).shape[-2:]
        return height, width

    def identity(self, name: str) -> str:
        """Return what tells the photo of an id from those of all other data sets."""
        return f"{self.name}/{name}"

    def mask(self, name: str) -> Tensor:
        """Read the mask of an id: uint8 (H, W), values below the number of classes, or void.

        Raises:
            ValueError: a value outside the classes; the message names the file and the values.
        """
        mask = self.read_labels(name)
        labels = mask.numpy()
        if self.table:
            found = np.array(self.table, np.int16)[labels]
            if (found == UNKNOWN).any():
                wrong = [v for v in np.unique(labels).tolist() if self.table[v] == UNKNOWN]
                known = [value for value in range(256) if self.table[value] != UNKNOWN]
                raise ValueError(
                    f"{self.places(name)[1]} holds the values {wrong}, but known are {known}"
                )
            return torch.from_numpy(found.astype(np.uint8))
        bad = labels >= len(self.classes)
        bad &= labels != self.void
        if bad.any():
            wrong = [int(v) for v in np.unique(labels) if v >= len(self.classes) and v != self.void]
            raise ValueError(
                f"{self.places(name)[1]} holds the values {wrong}, but the classes of {self.name} "
                f"end at {len(self.classes) - 1} and void is {self.void}"
            )
        return mask

    def pair(self, name: str) -> tuple[Tensor, Tensor]:
        """Read photo and mask of an id and check that their sizes agree.

        Raises:
            ValueError: either is unreadable, or their sizes differ.
        """
        image, mask = self.image(name), self.mask(name)
        if image.shape[1:] != mask.shape:
            photo, labels = self.places(name)
            raise ValueError(
                f"{photo} is {image.shape[2]} x {image.shape[1]} pixels, but {labels} is "
                f"{mask.shape[1]} x {mask.shape[0]}"
            )
        return image, mask


@dataclass(frozen=True, kw_only=True)
class FileSource(Source):
    """A data set of files: where its photos, masks and lists lie.

    Photos are ``images``/<id>.jpg, masks ``masks``/<id>.png, lists ``lists``/<split>.txt; ``scale``
    is of photos of more than 8 bits.
    """

    images: Path
    masks: Path
    lists: Path
    scale: Scale = AS_STORED

    @property
    def reading(self) -> str:
        """All that decides which labels a mask's file stands for, as text."""
        table = f" {self.table}" if self.table else ""
        return f"{self.void} {len(self.classes)}{table}"

    @property
    def layout(self) -> str:
        """Where photos, masks and lists are looked for, in words."""
        photo, mask = self.places("{stem}")
        return f"photos {photo}, masks {mask}, lists {self.list_path('{split}')}"

    def splits(self) -> tuple[str, ...]:
        """Return the names of the lists on disk."""
        return tuple(sorted(path.stem for path in self.lists.glob("*.txt")))

    def list_path(self, split: str) -> Path:
        """Return where a split's list lies."""
        return self.lists / f"{split}.txt"

    def lines(self, split: str) -> tuple[str, ...]:
        """Return what a split's list names, valid or not.

        Raises:
            ValueError: the list is missing, not text or empty.
        """
        return read_lines(self.list_path(split))

    def id_fault(self, name: str, seen: Container[str] = ()) -> str | None:
        """Say what is wrong with an id that a list names after the ``seen`` ones, if anything."""
        return id_fault(name, seen)

    def ids(self, split: str) -> tuple[str, ...]:
        """Return the ids of a split in the list's order; every one has its two files.

        Raises:
            ValueError: no such list, or an id without photo or mask.
        """
        path = self.list_path(split)
        ids = sound_ids(path, self.lines(split), self.id_fault)
        for name in ids:
            for file, what in ((self.image_path(name), "photo"), (self.mask_path(name), "mask")):
                if why := no_file(file):
                    advice = self.advice(split, name) if what == "mask" else ""
                    raise ValueError(f"{path} names {name!r}, but its {what} {file} {why}{advice}")
        return ids

    def advice(self, split: str, name: str) -> str:
        """Return what to do about a missing mask, to be appended to the message."""
        return ""

    def image_path(self, name: str) -> Path:
        """Return where the photo of an id lies."""
        return self.images / f"{name}.jpg"

    def mask_path(self, name: str) -> Path:
        """Return where the mask of an id lies."""
        return self.masks / f"{name}.png"

    def places(self, name: str) -> tuple[str, str]:
        """Return the paths of photo and mask."""
        return str(self.image_path(name)), str(self.mask_path(name))

    def size(self, name: str) -> tuple[int, int]:
        """Return (height, width) of the photo of an id, by its header."""
        return image_size(self.image_path(name), self.channels)

    def identity(self, name: str) -> str:
        """Return the name and the size in bytes of a photo: many are called 0001."""
        return f"{name}/{self.image_path(name).stat().st_size}"

    def image(self, name: str) -> Tensor:
        """Read the photo of an id: uint8 (channels, H, W)."""
        return read_image(self.image_path(name), self.scale, self.channels)

    def read_labels(self, name: str) -> Tensor:
        """Read the mask of an id as its file has it, values not yet checked: uint8 (H, W).

        Raises:
            ValueError: the file's palette gives the labels other colors than VOC's.
        """
        labels, colors = read_mask_and_palette(self.mask_path(name))
        expected = bytes(palette())
        if colors not in (None, expected):
            wrong = unexpected(used_colors(labels, colors), dict(enumerate(color_list(expected))))
            if wrong:
                raise ValueError(f"{self.mask_path(name)}: its palette {wrong} as VOC's; {ADVICE}")
        return labels
