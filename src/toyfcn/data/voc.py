"""What lies on disk in the PASCAL VOC layout: splits, ids, classes; pixels when asked.

A VOC year's folder holds ``JPEGImages/<id>.jpg``, ``SegmentationClass/<id>.png`` and
``ImageSets/Segmentation/<split>.txt``. Nothing here opens an image or a mask before it is consumed.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from torch import Tensor

from toyfcn.data.image_io import read_image, read_mask
from toyfcn.data.splits import id_fault, no_file, read_lines, sound_ids

VOID = 255  # labels of pixels that are neither learned nor scored
CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat"),
    *("chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant"),
    *("sheep", "sofa", "train", "tvmonitor"),
)
AUGMENTED = "SegmentationClassAug"  # SBD's masks, brought to VOC's form: they add to VOC's own
LISTS = Path(__file__).parent / "lists"  # trainaug and seg11valid, which no VOC tar holds


def palette() -> list[int]:
    """Return VOC's 256 colours as 768 flat integers: label bits dealt out to r, g, b in turn."""
    colours = []
    for label in range(256):
        rgb = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                rgb[channel] |= (label >> (3 * bit + channel) & 1) << (7 - bit)
        colours += rgb
    return colours


def find_voc(root: str | Path, year: int | str) -> Path:
    """Return the folder of one VOC year below (or at) ``root``.

    ``root`` may be the folder above ``VOCdevkit`` (or above the 2011 tar's ``TrainVal``),
    ``VOCdevkit`` itself, or the year's folder.

    Raises:
        ValueError: no such folder; the message names every place that was looked at.
    """
    root, name = Path(root).expanduser(), f"VOC{year}"
    below = [root / part / name for part in (".", "VOCdevkit", "TrainVal/VOCdevkit")]
    foreign = root.name.startswith("VOC2") and root.name != name
    for folder in below if foreign else [root, *below]:
        if (folder / "ImageSets" / "Segmentation").is_dir():
            return folder
    looked = ", ".join(str(folder) for folder in below)
    raise ValueError(
        f"no {name} found: data.root={root} is neither the year's folder nor above it (looked for "
        f"{looked}). Set data.root= or TOYFCN_VOC to the folder that holds VOCdevkit, or get the "
        f"data with `toyfcn-data download data=voc{year}`"
    )


@dataclass(frozen=True)
class Source:
    """One data set on disk: where its photos, masks and lists lie, and what its labels mean.

    Holds paths and names only, so it is small and travels to loader workers as it is.
    """

    name: str
    images: Path
    masks: Path
    lists: Path
    classes: tuple[str, ...]
    palette: tuple[int, ...] = tuple(palette())
    void: int = VOID
    pascal: bool = False  # ids are PASCAL's own: one photo's name is the same in every year

    @property
    def reading(self) -> str:
        """All that decides which labels a mask's file stands for, as text."""
        return f"{self.void} {len(self.classes)}"

    def splits(self) -> tuple[str, ...]:
        """Return the names of the lists on disk."""
        return tuple(sorted(path.stem for path in self.lists.glob("*.txt")))

    def list_path(self, split: str) -> Path:
        """Return where a split's list lies: on disk, else among those that come with toyfcn."""
        path = self.lists / f"{split}.txt"
        shipped = LISTS / path.name
        return shipped if self.pascal and no_file(path) and not no_file(shipped) else path

    def lines(self, split: str) -> tuple[str, ...]:
        """Return what a split's list names, sound or not.

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
                    advice = self._advice(split, name) if what == "mask" else ""
                    raise ValueError(f"{path} names {name!r}, but its {what} {file} {why}{advice}")
        return ids

    def _advice(self, split: str, name: str) -> str:
        added = self.masks.parent / AUGMENTED
        if not self.pascal or self.masks.name == AUGMENTED:
            return ""
        if not no_file(added / f"{name}.png"):
            return f", though there is one in {added}: set data.masks={AUGMENTED}"
        if split == "trainaug":
            return (
                f": most of trainaug has masks only in {AUGMENTED} (SBD's), so put that folder "
                f"into {added.parent} and set data.masks={AUGMENTED}"
            )
        return ""

    def image_path(self, name: str) -> Path:
        """Return where the photo of an id lies."""
        return self.images / f"{name}.jpg"

    def mask_path(self, name: str) -> Path:
        """Return where the mask of an id lies."""
        path = self.masks / f"{name}.png"
        if self.masks.name == AUGMENTED and no_file(path):
            own = self.images.parent / "SegmentationClass" / path.name
            return path if no_file(own) else own
        return path

    def image(self, name: str) -> Tensor:
        """Read the photo of an id: uint8 (3, H, W), RGB."""
        return read_image(self.image_path(name))

    def mask(self, name: str) -> Tensor:
        """Read the mask of an id: uint8 (H, W), values below the number of classes, or void.

        Raises:
            ValueError: a value outside the classes; the message names the file and the values.
        """
        mask = self.read_labels(name)
        labels = mask.numpy()
        bad = labels >= len(self.classes)
        bad &= labels != self.void
        if bad.any():
            wrong = [int(v) for v in np.unique(labels) if v >= len(self.classes) and v != self.void]
            raise ValueError(
                f"{self.mask_path(name)} holds the values {wrong}, but the classes of {self.name} "
                f"end at {len(self.classes) - 1} and void is {self.void}"
            )
        return mask

    def read_labels(self, name: str) -> Tensor:
        """Read the mask of an id as its file has it, values not yet judged: uint8 (H, W)."""
        return read_mask(self.mask_path(name))

    def pair(self, name: str) -> tuple[Tensor, Tensor]:
        """Read photo and mask of an id and see that their sizes agree.

        Raises:
            ValueError: either is unreadable, or their sizes differ.
        """
        image, mask = self.image(name), self.mask(name)
        if image.shape[1:] != mask.shape:
            raise ValueError(
                f"{self.image_path(name)} is {image.shape[2]} x {image.shape[1]} pixels, but its "
                f"mask {self.mask_path(name)} is {mask.shape[1]} x {mask.shape[0]}"
            )
        return image, mask


def voc_source(
    folder: Path,
    classes: Sequence[str] = CLASSES,
    name: str = "",
    masks: str = "SegmentationClass",
) -> Source:
    """Describe a folder in the VOC layout, such as one that ``find_voc`` found.

    ``masks`` is the folder of the masks below it; ``SegmentationClassAug`` adds to VOC's own.
    """
    return Source(
        name=name or folder.name,
        images=folder / "JPEGImages",
        masks=folder / masks,
        lists=folder / "ImageSets" / "Segmentation",
        classes=tuple(classes),
        pascal=tuple(classes) == CLASSES,
    )


class DiaryBatch(TypedDict):
    """A batch as the diary had it: names now, pixels when the iterators advance."""

    names: list[str]
    batch: Iterator[Tensor]
    annotations: Iterator[Tensor]


class VOCReader:
    """The diary's reader: names are sampled from the index file, an image opens when consumed.

    >>> reader = VOCReader("data", 2007, "train")                       # doctest: +SKIP
    >>> batch = reader.next_train_batch(batch_sz=10)                    # doctest: +SKIP
    >>> for photo, mask in zip(batch["batch"], batch["annotations"]):   # doctest: +SKIP
    ...     print(photo.shape, mask.shape)  # (3, H, W) and (H, W), both uint8
    """

    def __init__(self, root: str | Path, year: int | str, split: str, seed: int = 0) -> None:
        self.source = voc_source(find_voc(root, year))
        self.names = self.source.ids(split)
        self._rng = np.random.default_rng(seed)

    def next_train_batch(self, batch_sz: int = 10) -> DiaryBatch:
        """Sample ``batch_sz`` ids uniformly without replacement; read nothing yet.

        Raises:
            ValueError: the split has fewer images than that, or ``batch_sz`` is below 1.
        """
        if not 1 <= batch_sz <= len(self.names):
            raise ValueError(f"batch_sz={batch_sz}, but the split has {len(self.names)} images")
        chosen = self._rng.choice(len(self.names), batch_sz, replace=False)
        names = [self.names[i] for i in chosen]
        return {
            "names": names,
            "batch": (self.source.image(name) for name in names),
            "annotations": (self.source.mask(name) for name in names),
        }
